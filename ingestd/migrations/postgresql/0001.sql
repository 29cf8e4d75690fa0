-- Clusters, clients, headends. Ids are ordered by their bytes, and lower() changes ASCII letters only, as in SQLite.
CREATE TABLE clusters (
  id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  region TEXT COLLATE "C" NOT NULL,
  datacenter TEXT COLLATE "C" NOT NULL,
  headend_url TEXT NOT NULL,
  created_unix_ms BIGINT NOT NULL
);

CREATE TABLE clients (
  id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  type TEXT NOT NULL CHECK (type IN ('docker', 'native', 'mobile')),
  cluster_id TEXT COLLATE "C" REFERENCES clusters (id),
  key_hash BYTEA NOT NULL CHECK (length(key_hash) = 32), -- SHA-256 of the API key
  created_unix_ms BIGINT NOT NULL,
  revoked_unix_ms BIGINT -- NULL: not revoked
);
CREATE INDEX clients_by_cluster ON clients (cluster_id);

CREATE TABLE headends (
  id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  cluster_id TEXT COLLATE "C" REFERENCES clusters (id),
  created_unix_ms BIGINT NOT NULL
);
CREATE INDEX headends_by_cluster ON headends (cluster_id);
