SELECT `event_timestamp`, ARRAY(SELECT AS STRUCT e0.`key` AS `key`, IF(e0.`value` IS NULL, NULL, STRUCT(e0.`value`.`int_value` AS `int_value`)) AS `value` FROM UNNEST(`event_params`) AS e0 WITH OFFSET AS o0 ORDER BY o0) AS `event_params`, ARRAY(SELECT AS STRUCT e0.`item_id` AS `item_id` FROM UNNEST(`items`) AS e0 WITH OFFSET AS o0 ORDER BY o0) AS `items`, IF(`geo` IS NULL, NULL, STRUCT(`geo`.`country` AS `country`)) AS `geo`, `order`
FROM `shop-project.analytics_1.events_*`
WHERE _TABLE_SUFFIX = '20260301'
