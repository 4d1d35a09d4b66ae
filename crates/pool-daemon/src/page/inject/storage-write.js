// Puts items into the storages of an origin, if this is a document of it.
(origin, local, session) => {
  if (self.origin !== origin) return false;
  for (const [key, value] of Object.entries(local)) localStorage.setItem(key, value);
  for (const [key, value] of Object.entries(session)) sessionStorage.setItem(key, value);
  return true;
}
