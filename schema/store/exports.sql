-- name: labelled
SELECT feature.index, feature.status, feature.density, feature.max_activation,
       label.author, label.run_id, label.created_at, label.recipe, label.body - 'choice', description.body - 'reply'
FROM feature
LEFT JOIN label ON label.id = feature.label_id
LEFT JOIN description ON description.id = CAST(label.body ->> 'description_id' AS bigint)
WHERE feature.dictionary_id = :dictionary_id AND feature.index >= :lo AND feature.index < :hi
ORDER BY feature.index;
