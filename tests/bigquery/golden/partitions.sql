SELECT `event_name`
FROM `p.d.t`
WHERE (`day` >= DATE '2026-02-28' AND `day` < DATE '2026-03-02') OR (`day` >= DATE '2026-03-05' AND `day` < DATE '2026-03-06') OR (`day` IS NULL)
