SELECT `event_name`, `data`
FROM (
SELECT * FROM `p.d.t` WHERE shop = 'a'
)
WHERE (`time` >= TIMESTAMP '2026-03-01 00:00:00+00:00' AND `time` < TIMESTAMP '2026-03-31 12:00:00+00:00') OR `time` IS NULL
