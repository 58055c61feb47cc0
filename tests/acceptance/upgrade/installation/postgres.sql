SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.analytics_daily (
    event_type text NOT NULL,
    date date NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.analytics_dimension_daily (
    date date NOT NULL,
    event_type text NOT NULL,
    property text NOT NULL,
    value text NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
PARTITION BY RANGE (date);
CREATE TABLE public.analytics_dimension_daily_2025_03 (
    date date NOT NULL,
    event_type text NOT NULL,
    property text NOT NULL,
    value text NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.analytics_dimension_daily_default (
    date date NOT NULL,
    event_type text NOT NULL,
    property text NOT NULL,
    value text NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.analytics_hourly (
    event_type text NOT NULL,
    hour timestamp with time zone NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.analytics_schema_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.analytics_user_daily (
    date date NOT NULL,
    event_type text NOT NULL,
    user_id text NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
PARTITION BY RANGE (date);
CREATE TABLE public.analytics_user_daily_2020_06 (
    date date NOT NULL,
    event_type text NOT NULL,
    user_id text NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.analytics_user_daily_2025_03 (
    date date NOT NULL,
    event_type text NOT NULL,
    user_id text NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.analytics_user_daily_default (
    date date NOT NULL,
    event_type text NOT NULL,
    user_id text NOT NULL,
    count bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.archived_entries (
    name uuid NOT NULL,
    partition integer NOT NULL,
    entry_id text NOT NULL,
    events integer NOT NULL,
    archived_at timestamp with time zone NOT NULL
);
COMMENT ON COLUMN public.archived_entries.name IS 'the ledger: what is here is archived';
COMMENT ON COLUMN public.archived_entries.entry_id IS 'its id in the stream';
CREATE TABLE public.dead_letters (
    id text NOT NULL,
    kind text NOT NULL,
    body bytea NOT NULL,
    reason text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    replayed_at timestamp with time zone
);
COMMENT ON COLUMN public.dead_letters.kind IS 'event, message, counter or entry';
COMMENT ON COLUMN public.dead_letters.body IS 'as it came';
CREATE TABLE public.event_log_gaps (
    event_type text NOT NULL,
    reason text NOT NULL,
    hour timestamp with time zone NOT NULL,
    count bigint NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
COMMENT ON COLUMN public.event_log_gaps.reason IS 'off or full';
COMMENT ON COLUMN public.event_log_gaps.hour IS 'of the events';
COMMENT ON COLUMN public.event_log_gaps.count IS 'events counted and not logged';
COMMENT ON COLUMN public.event_log_gaps.noted_at IS 'when the first of them were stored';
CREATE TABLE public.events (
    event_type text NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    user_id text,
    properties json,
    event_id text
)
PARTITION BY RANGE ("timestamp");
COMMENT ON COLUMN public.events.properties IS 'the text as it came: no number or escape is refused';
CREATE TABLE public.events_2025_03_14 (
    event_type text NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    user_id text,
    properties json,
    event_id text
);
CREATE TABLE public.events_default (
    event_type text NOT NULL,
    "timestamp" timestamp with time zone NOT NULL,
    user_id text,
    properties json,
    event_id text
);
CREATE TABLE public.flush_batches (
    batch_id text NOT NULL,
    epoch integer NOT NULL,
    claim bigint NOT NULL,
    rows integer NOT NULL,
    stored_at timestamp with time zone NOT NULL
);
COMMENT ON COLUMN public.flush_batches.batch_id IS 'the ledger: what is here is stored';
COMMENT ON COLUMN public.flush_batches.claim IS 'Redis''s number of the claim';
CREATE TABLE public.pruned (
    table_name text NOT NULL,
    before date NOT NULL
);
COMMENT ON COLUMN public.pruned.before IS 'all earlier days have been dropped';
ALTER TABLE ONLY public.analytics_dimension_daily ATTACH PARTITION public.analytics_dimension_daily_2025_03 FOR VALUES FROM ('2025-03-01') TO ('2025-04-01');
ALTER TABLE ONLY public.analytics_dimension_daily ATTACH PARTITION public.analytics_dimension_daily_default DEFAULT;
ALTER TABLE ONLY public.analytics_user_daily ATTACH PARTITION public.analytics_user_daily_2020_06 FOR VALUES FROM ('2020-06-01') TO ('2020-07-01');
ALTER TABLE ONLY public.analytics_user_daily ATTACH PARTITION public.analytics_user_daily_2025_03 FOR VALUES FROM ('2025-03-01') TO ('2025-04-01');
ALTER TABLE ONLY public.analytics_user_daily ATTACH PARTITION public.analytics_user_daily_default DEFAULT;
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_2025_03_14 FOR VALUES FROM ('2025-03-14 00:00:00+00') TO ('2025-03-15 00:00:00+00');
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_default DEFAULT;
INSERT INTO public.analytics_daily VALUES
	('old', '2020-06-01', 1, '2026-11-28 16:47:33.19618+00'),
	('quiet', '2025-03-14', 1, '2026-11-28 16:47:33.19618+00'),
	('order', '2025-03-14', 4, '2026-11-28 16:47:46.280357+00'),
	('page_view', '2025-03-14', 11, '2026-11-28 16:47:46.280357+00');
INSERT INTO public.analytics_dimension_daily_2025_03 VALUES
	('2025-03-14', 'page_view', 'path', '/0', 5, '2026-11-28 16:47:46.280357+00'),
	('2025-03-14', 'page_view', 'path', '/1', 5, '2026-11-28 16:47:46.280357+00');
INSERT INTO public.analytics_hourly VALUES
	('old', '2020-06-01 12:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('page_view', '2025-03-14 00:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('page_view', '2025-03-14 01:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('page_view', '2025-03-14 02:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('page_view', '2025-03-14 03:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('page_view', '2025-03-14 04:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('page_view', '2025-03-14 05:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('quiet', '2025-03-14 10:00:00+00', 1, '2026-11-28 16:47:33.19618+00'),
	('order', '2025-03-14 10:00:00+00', 4, '2026-11-28 16:47:46.280357+00'),
	('page_view', '2025-03-14 10:00:00+00', 5, '2026-11-28 16:47:46.280357+00');
INSERT INTO public.analytics_schema_version VALUES
	('0002');
INSERT INTO public.analytics_user_daily_2020_06 VALUES
	('2020-06-01', 'old', 'u1', 1, '2026-11-28 16:47:33.19618+00');
INSERT INTO public.analytics_user_daily_2025_03 VALUES
	('2025-03-14', 'page_view', 'stock', 1, '2026-11-28 16:47:33.19618+00'),
	('2025-03-14', 'order', 'u0', 1, '2026-11-28 16:47:33.19618+00'),
	('2025-03-14', 'page_view', 'u0', 2, '2026-11-28 16:47:33.19618+00'),
	('2025-03-14', 'quiet', 'u1', 1, '2026-11-28 16:47:33.19618+00'),
	('2025-03-14', 'order', 'u2', 1, '2026-11-28 16:47:33.19618+00'),
	('2025-03-14', 'order', 'u1', 2, '2026-11-28 16:47:46.280357+00'),
	('2025-03-14', 'page_view', 'u1', 3, '2026-11-28 16:47:46.280357+00'),
	('2025-03-14', 'page_view', 'u2', 3, '2026-11-28 16:47:46.280357+00');
INSERT INTO public.archived_entries VALUES
	('2211cc1f-4e29-403a-a915-7349de6967e5', 0, '1795884451582-0', 11, '2026-11-28 16:47:33.288396+00'),
	('4099b1ee-190e-43cc-af59-c1e30645e727', 0, '1795884456298-0', 2, '2026-11-28 16:47:37.722073+00'),
	('e262a086-e196-4bcd-a60a-7da2630e655b', 0, '1795884460376-0', 2, '2026-11-28 16:47:42.224515+00');
INSERT INTO public.dead_letters VALUES
	('1795884451582-0', 'event', '\x7b226576656e745f74797065223a2022222c2022757365725f6964223a20226d6f76656420746f20506f737467726573227d', 'event_type: must have 1 to 200 characters; this has 0 (got '''')', '2026-11-28 16:47:31+00', NULL);
INSERT INTO public.event_log_gaps VALUES
	('quiet', 'off', '2025-03-14 10:00:00+00', 1, '2026-11-28 16:47:33.19618+00', '2026-11-28 16:47:33.19618+00');
INSERT INTO public.events_2025_03_14 VALUES
	('page_view', '2025-03-14 00:59:59+00', 'u0', '{"path":"/0"}', NULL),
	('page_view', '2025-03-14 01:59:59+00', 'u1', '{"path":"/1"}', NULL),
	('page_view', '2025-03-14 02:59:59+00', 'u2', '{"path":"/0"}', NULL),
	('page_view', '2025-03-14 03:59:59+00', 'u0', '{"path":"/1"}', NULL),
	('page_view', '2025-03-14 04:59:59+00', 'u1', '{"path":"/0"}', NULL),
	('page_view', '2025-03-14 05:59:59+00', 'u2', '{"path":"/1"}', NULL),
	('order', '2025-03-14 10:30:00+00', 'u0', NULL, 'order-0'),
	('order', '2025-03-14 10:30:00+00', 'u1', NULL, 'order-1'),
	('order', '2025-03-14 10:30:00+00', 'u2', NULL, 'order-2'),
	('page_view', '2025-03-14 10:00:00+00', 'stock', NULL, NULL),
	('page_view', '2025-03-14 10:30:00+00', NULL, '{ "path" : "/0" }', NULL),
	('page_view', '2025-03-14 10:30:00+00', NULL, '{ "path" : "/1" }', NULL),
	('page_view', '2025-03-14 10:30:00+00', 'u1', '{"path":"/0"}', NULL),
	('order', '2025-03-14 10:30:00+00', 'u1', NULL, 'order-archived');
INSERT INTO public.flush_batches VALUES
	('f540760863194707a642c779516a9eb7', 0, 1, 26, '2026-11-28 16:47:33.204416+00'),
	('5c9c342b940347298c56f64fc0b25c41', 0, 2, 5, '2026-11-28 16:47:37.703787+00'),
	('df16a50f4cd34e27a7707ad9ec4c811b', 0, 3, 9, '2026-11-28 16:47:46.293011+00');
INSERT INTO public.pruned VALUES
	('events', '2021-01-01');
ALTER TABLE ONLY public.analytics_daily
    ADD CONSTRAINT analytics_daily_pkey PRIMARY KEY (event_type, date);
ALTER TABLE ONLY public.analytics_dimension_daily
    ADD CONSTRAINT analytics_dimension_daily_pkey PRIMARY KEY (date, event_type, property, value);
ALTER TABLE ONLY public.analytics_dimension_daily_2025_03
    ADD CONSTRAINT analytics_dimension_daily_2025_03_pkey PRIMARY KEY (date, event_type, property, value);
ALTER TABLE ONLY public.analytics_dimension_daily_default
    ADD CONSTRAINT analytics_dimension_daily_default_pkey PRIMARY KEY (date, event_type, property, value);
ALTER TABLE ONLY public.analytics_hourly
    ADD CONSTRAINT analytics_hourly_pkey PRIMARY KEY (event_type, hour);
ALTER TABLE ONLY public.analytics_schema_version
    ADD CONSTRAINT analytics_schema_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.analytics_user_daily
    ADD CONSTRAINT analytics_user_daily_pkey PRIMARY KEY (date, event_type, user_id);
ALTER TABLE ONLY public.analytics_user_daily_2020_06
    ADD CONSTRAINT analytics_user_daily_2020_06_pkey PRIMARY KEY (date, event_type, user_id);
ALTER TABLE ONLY public.analytics_user_daily_2025_03
    ADD CONSTRAINT analytics_user_daily_2025_03_pkey PRIMARY KEY (date, event_type, user_id);
ALTER TABLE ONLY public.analytics_user_daily_default
    ADD CONSTRAINT analytics_user_daily_default_pkey PRIMARY KEY (date, event_type, user_id);
ALTER TABLE ONLY public.archived_entries
    ADD CONSTRAINT archived_entries_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.event_log_gaps
    ADD CONSTRAINT event_log_gaps_pkey PRIMARY KEY (event_type, reason, hour);
ALTER TABLE ONLY public.flush_batches
    ADD CONSTRAINT flush_batches_pkey PRIMARY KEY (batch_id);
ALTER TABLE ONLY public.pruned
    ADD CONSTRAINT pruned_pkey PRIMARY KEY (table_name);
CREATE INDEX ix_analytics_user_daily_user_id ON ONLY public.analytics_user_daily USING btree (user_id);
CREATE INDEX analytics_user_daily_2020_06_user_id_idx ON public.analytics_user_daily_2020_06 USING btree (user_id);
CREATE INDEX analytics_user_daily_2025_03_user_id_idx ON public.analytics_user_daily_2025_03 USING btree (user_id);
CREATE INDEX analytics_user_daily_default_user_id_idx ON public.analytics_user_daily_default USING btree (user_id);
CREATE INDEX ix_events_event_type ON ONLY public.events USING btree (event_type, "timestamp");
CREATE INDEX events_2025_03_14_event_type_timestamp_idx ON public.events_2025_03_14 USING btree (event_type, "timestamp");
CREATE INDEX ix_events_timestamp ON ONLY public.events USING btree ("timestamp");
CREATE INDEX events_2025_03_14_timestamp_idx ON public.events_2025_03_14 USING btree ("timestamp");
CREATE INDEX ix_events_user_id ON ONLY public.events USING btree (user_id, "timestamp") WHERE (user_id IS NOT NULL);
CREATE INDEX events_2025_03_14_user_id_timestamp_idx ON public.events_2025_03_14 USING btree (user_id, "timestamp") WHERE (user_id IS NOT NULL);
CREATE INDEX events_default_event_type_timestamp_idx ON public.events_default USING btree (event_type, "timestamp");
CREATE INDEX events_default_timestamp_idx ON public.events_default USING btree ("timestamp");
CREATE INDEX events_default_user_id_timestamp_idx ON public.events_default USING btree (user_id, "timestamp") WHERE (user_id IS NOT NULL);
CREATE INDEX ix_archived_entries_archived_at ON public.archived_entries USING btree (archived_at);
CREATE UNIQUE INDEX ix_flush_batches_epoch_claim ON public.flush_batches USING btree (epoch, claim);
CREATE INDEX ix_flush_batches_stored_at ON public.flush_batches USING btree (stored_at);
ALTER INDEX public.analytics_dimension_daily_pkey ATTACH PARTITION public.analytics_dimension_daily_2025_03_pkey;
ALTER INDEX public.analytics_dimension_daily_pkey ATTACH PARTITION public.analytics_dimension_daily_default_pkey;
ALTER INDEX public.analytics_user_daily_pkey ATTACH PARTITION public.analytics_user_daily_2020_06_pkey;
ALTER INDEX public.ix_analytics_user_daily_user_id ATTACH PARTITION public.analytics_user_daily_2020_06_user_id_idx;
ALTER INDEX public.analytics_user_daily_pkey ATTACH PARTITION public.analytics_user_daily_2025_03_pkey;
ALTER INDEX public.ix_analytics_user_daily_user_id ATTACH PARTITION public.analytics_user_daily_2025_03_user_id_idx;
ALTER INDEX public.analytics_user_daily_pkey ATTACH PARTITION public.analytics_user_daily_default_pkey;
ALTER INDEX public.ix_analytics_user_daily_user_id ATTACH PARTITION public.analytics_user_daily_default_user_id_idx;
ALTER INDEX public.ix_events_event_type ATTACH PARTITION public.events_2025_03_14_event_type_timestamp_idx;
ALTER INDEX public.ix_events_timestamp ATTACH PARTITION public.events_2025_03_14_timestamp_idx;
ALTER INDEX public.ix_events_user_id ATTACH PARTITION public.events_2025_03_14_user_id_timestamp_idx;
ALTER INDEX public.ix_events_event_type ATTACH PARTITION public.events_default_event_type_timestamp_idx;
ALTER INDEX public.ix_events_timestamp ATTACH PARTITION public.events_default_timestamp_idx;
ALTER INDEX public.ix_events_user_id ATTACH PARTITION public.events_default_user_id_timestamp_idx;
