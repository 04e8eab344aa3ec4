-- Webhooks, and what they are owed. A webhook is leased by whoever sends for it: one request at a time to each. Its secret is
-- not here: it is derived. No foreign key to what a delivery tells of, which may be deleted meanwhile.
CREATE TABLE webhook (
    id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL REFERENCES tenant,
    url text NOT NULL,
    events text[] NOT NULL,
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'disabled')),
    last_error text,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX webhook_by_tenant ON webhook (tenant_id, created_at DESC, id);

CREATE TABLE delivery (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    webhook_id uuid NOT NULL REFERENCES webhook ON DELETE CASCADE,
    event text NOT NULL,
    data jsonb,
    state text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'delivered', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    last_error text,
    due_at timestamptz DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz
);
CREATE INDEX delivery_by_webhook ON delivery (webhook_id, created_at DESC, id);
CREATE INDEX delivery_due ON delivery (webhook_id, due_at) WHERE state = 'due';
