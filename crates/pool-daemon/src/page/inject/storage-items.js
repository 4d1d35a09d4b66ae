// Works on a storage of the document's origin. Throws what an agent can act upon.
(name, action, key, value) => {
  let storage;
  try {
    storage = self[name];
  } catch {
    throw new Error(`This page has no ${name}: go to a page of the site first.`);
  }
  switch (action) {
    case 'list': {
      const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index));
      return keys.filter(key => key !== null).map(key => [key, storage.getItem(key) ?? '']);
    }
    case 'get': {
      const item = storage.getItem(key);
      return item === null ? [] : [[key, item]];
    }
    case 'set': {
      try {
        storage.setItem(key, value);
      } catch {
        throw new Error(`The item is not set: with it ${name} would be larger than a site may have.`);
      }
      return [];
    }
    case 'remove':
      storage.removeItem(key);
      return [];
    default:
      storage.clear();
      return [];
  }
}
