// Puts items into the storages of an origin, if this is a document of it; with `replaces` in place of what its local one has.
(origin, local, session, replaces) => {
  if (self.origin !== origin) return false;
  if (replaces) localStorage.clear();
  for (const [key, value] of Object.entries(local)) localStorage.setItem(key, value);
  for (const [key, value] of Object.entries(session)) sessionStorage.setItem(key, value);
  return true;
}
