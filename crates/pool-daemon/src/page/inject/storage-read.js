// What the document's origin keeps in this browser (`local`) and in this tab (`session`): at most `most` characters each.
(most) => {
  const read = name => {
    const items = [];
    let size = 0;
    try {
      const storage = self[name];
      for (let index = 0; index < storage.length; index++) {
        const key = storage.key(index);
        const value = key === null ? null : storage.getItem(key);
        // Another tab may be taking items away.
        if (value === null) continue;
        size += key.length + value.length;
        if (size > most) return { items: [], tooLarge: true };
        items.push([key, value]);
      }
    } catch {
      // A document without an origin of its own has no storage.
      return { items: [], tooLarge: false };
    }
    return { items, tooLarge: false };
  };
  return { origin: self.origin, local: read('localStorage'), session: read('sessionStorage'), scroll: [scrollX, scrollY] };
}
