-- The application's role owns its database, so that it can create its own tables, and is no superuser: a superuser
-- would pass every connection limit. The probes have a role of their own: a fault that limits the application's
-- must not blind them.
CREATE ROLE anomaly_api LOGIN NOSUPERUSER CONNECTION LIMIT -1;
CREATE ROLE harness_probe LOGIN NOSUPERUSER CONNECTION LIMIT 10;
ALTER DATABASE anomalies OWNER TO anomaly_api;
