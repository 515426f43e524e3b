SELECT partition_id, total_rows, total_logical_bytes, last_modified_time
FROM `p.d.INFORMATION_SCHEMA.PARTITIONS`
WHERE table_name = 'it\'s'
