-- Times are milliseconds since 1970. What is JSON is plain data that serde knows.
CREATE TABLE sessions (
    principal TEXT NOT NULL,
    name TEXT NOT NULL,
    birth TEXT NOT NULL,
    -- What never changes, as JSON.
    doc TEXT NOT NULL,
    made INTEGER NOT NULL,
    used INTEGER NOT NULL,
    idle INTEGER NOT NULL,
    -- When it lapses: its idle time after its last use, at most `hard`.
    expires INTEGER NOT NULL,
    hard INTEGER NOT NULL,
    -- The id of its lease, empty without, and its lease state as JSON.
    held TEXT NOT NULL,
    lease TEXT NOT NULL,
    -- Sealed.
    checkpoint BLOB,
    -- It has lapsed, and what it was has been answered.
    swept INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (principal, name)
) WITHOUT ROWID;
CREATE INDEX sessions_expire ON sessions (expires);

CREATE TABLE artifacts (
    -- The order in which they came.
    number INTEGER PRIMARY KEY,
    principal TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    -- What it is, as JSON.
    doc TEXT NOT NULL,
    sealed BLOB NOT NULL,
    UNIQUE (principal, name, id),
    FOREIGN KEY (principal, name) REFERENCES sessions ON DELETE CASCADE
);

CREATE TABLE connections (
    principal TEXT NOT NULL,
    id TEXT NOT NULL,
    -- The connection as JSON, but for what has a column.
    doc TEXT NOT NULL,
    -- Other sessions its calls named, as JSON.
    sessions TEXT NOT NULL,
    seen INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    streams INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (principal, id)
) WITHOUT ROWID;
CREATE INDEX connections_expire ON connections (expires);
