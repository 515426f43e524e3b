SELECT `event_name`
FROM `shop-project.analytics_1.events_*`
WHERE (_TABLE_SUFFIX BETWEEN '20260228' AND '20260302') OR (_TABLE_SUFFIX = '20260401')
