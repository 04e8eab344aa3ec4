-- Keys, what was done with them, and how much a tenant has stored.

CREATE TABLE api_key (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    name text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('read', 'submit', 'admin')),
    secret_sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    used_at timestamptz
);
CREATE INDEX api_key_by_tenant ON api_key (tenant_id, created_at DESC, id);

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    key_id uuid NOT NULL REFERENCES api_key,
    method text NOT NULL,
    path text NOT NULL,
    status smallint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_by_tenant ON audit (tenant_id, id DESC);

ALTER TABLE dictionary ADD COLUMN n_bytes bigint NOT NULL DEFAULT 0; -- of weights that were uploaded
CREATE INDEX run_unfinished ON run (tenant_id) WHERE state IN ('queued', 'running', 'paused');
