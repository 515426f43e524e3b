{{/* Values that do not go together, which a schema cannot express well. Each failure says what to do. */}}
{{- define "endcap.checks" -}}
{{- with .Values.mlflow }}
{{- if .enabled }}
{{- if and (eq .backend.type "postgresql") (not .backend.postgresql.existingSecret) }}
{{- fail (printf "mlflow.backend.postgresql.existingSecret: found nothing, and mlflow.backend.type is postgresql; allowed: the name of a Secret in namespace %s with the database's address, such as one made by\n  kubectl -n %s create secret generic mlflow-db --from-literal=%s='postgresql://user:password@host:5432/mlflow'" $.Release.Namespace $.Release.Namespace .backend.postgresql.key) }}
{{- end }}
{{- if and (gt (int .replicas) 1) (eq .backend.type "sqlite") }}
{{- fail (printf "mlflow.replicas: found %d, and mlflow.backend.type is sqlite; allowed: 1, because one server at a time may hold the file; for more use postgresql" (int .replicas)) }}
{{- end }}
{{- if and (gt (int .replicas) 1) (eq .artifacts.type "volume") }}
{{- fail (printf "mlflow.replicas: found %d, and mlflow.artifacts.type is volume; allowed: 1, because one node at a time holds the volume; for more use mlflow.artifacts.type s3" (int .replicas)) }}
{{- end }}
{{- if and (eq .artifacts.type "s3") (not .artifacts.destination) }}
{{- fail "mlflow.artifacts.destination: found nothing, and mlflow.artifacts.type is s3; allowed: a bucket and a prefix, such as s3://endcap/mlflow" }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.store }}
{{- if .create }}
{{- range $key := list "endpoint" "accessKeyId" "secretAccessKey" }}
{{- if not (get $.Values.store $key) }}
{{- fail (printf "store.%s: found nothing, and store.create is true; allowed: a value for each of store.endpoint, store.accessKeyId and store.secretAccessKey, or store.create=false and a Secret of yours" $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.intake }}
{{- if .enabled }}
{{- if not .out }}
{{- fail "intake.out: found nothing, and intake.enabled is true; allowed: a bucket and a prefix, such as s3://endcap/intake" }}
{{- end }}
{{- if and .pseudonyms (not $.Values.pseudonyms.secretName) }}
{{- fail "pseudonyms.secretName: found nothing, and intake.pseudonyms is true; allowed: the name of a Secret with the key ENDCAP_PSEUDONYM_KEY, such as endcap-pseudonyms" }}
{{- end }}
{{- if and $.Values.online.secretName (not .shop) }}
{{- fail "intake.shop: found nothing, and online.secretName is set; allowed: the shop's name, as in its file" }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.monitoring.store }}
{{- if and .enabled (not .address) }}
{{- fail "monitoring.store.address: found nothing, and monitoring.store.enabled is true; allowed: the store's address, such as s3://bucket/endcap" }}
{{- end }}
{{- if and .enabled (not .registry) (not $.Values.mlflow.enabled) }}
{{- fail "monitoring.store.registry: found nothing, and mlflow.enabled is false; allowed: the address of your MLflow server" }}
{{- end }}
{{- end }}
{{- if and .Values.rollouts.enabled (not .Values.rollouts.store) }}
{{- fail "rollouts.store: found nothing, and rollouts.enabled is true; allowed: the store of the pipelines, such as s3://endcap/store" }}
{{- end }}
{{- if and .Values.rollouts.enabled (not .Values.mlflow.enabled) (not .Values.rollouts.registry) }}
{{- fail "rollouts.registry: found nothing, and mlflow.enabled is false; allowed: the address of your MLflow server, such as https://mlflow.example.com" }}
{{- end }}
{{- with .Values.schedules }}
{{- if .enabled }}
{{- if not .store }}
{{- fail "schedules.store: found nothing, and schedules.enabled is true; allowed: the store of the pipelines, such as s3://endcap/store" }}
{{- end }}
{{- if and (not $.Values.mlflow.enabled) (not .registry) }}
{{- fail "schedules.registry: found nothing, and mlflow.enabled is false; allowed: the address of your MLflow server, such as https://mlflow.example.com" }}
{{- end }}
{{- if and (ne .mode "none") (not .workingDir) (or (not .specs) (not .shops)) }}
{{- fail (printf "schedules.specs: found no recommender or no shop, and schedules.mode is %s; allowed: at least one of schedules.specs and of schedules.shops, a folder of your image (schedules.workingDir), or schedules.mode=none" .mode) }}
{{- end }}
{{- if and .workingDir (or .specs .shops) }}
{{- fail (printf "schedules.workingDir: found %s, and there are schedules.specs or schedules.shops; allowed: one of the two" .workingDir) }}
{{- end }}
{{- if and .notifications.enabled (ne .mode "service") }}
{{- fail (printf "schedules.notifications.enabled: found true, and schedules.mode is %s; allowed: with mode service, which alone listens" .mode) }}
{{- end }}
{{- $names := list }}
{{- range .jobs }}
{{- if has .name $names }}
{{- fail (printf "schedules.jobs: found the name %s twice; allowed: each name once" .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- if gt (len (printf "%s-%s" (include "endcap.fullname" $) .name)) 52 }}
{{- fail (printf "schedules.jobs: found the name %s, which with the release's is longer than a CronJob's may be; allowed: at most 52 characters together" .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.tls }}
{{- if and (eq .source "certManager") (not .certManager.issuer.name) }}
{{- fail "tls.certManager.issuer.name: found nothing, and tls.source is certManager; allowed: the name of an Issuer or a ClusterIssuer of cert-manager's" }}
{{- end }}
{{- if and .secrets.clients (ne .gateway "mtls") }}
{{- fail (printf "tls.secrets.clients: found %s, and tls.gateway is %s; allowed: nothing, or tls.gateway=mtls" .secrets.clients .gateway) }}
{{- end }}
{{- end }}
{{- with .Values.gateway }}
{{- if and .enabled .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- fail (printf "gateway.autoscaling.minReplicas: found %d, and gateway.autoscaling.maxReplicas is %d; allowed: at most that" (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
{{- end }}
{{- with .rollingUpdate }}
{{- if and (has (toString .maxSurge) (list "0" "0%")) (has (toString .maxUnavailable) (list "0" "0%")) }}
{{- fail "gateway.rollingUpdate.maxUnavailable: found 0, and gateway.rollingUpdate.maxSurge is 0; allowed: at least 1, because otherwise no pod could ever be replaced" }}
{{- end }}
{{- end }}
{{- if and .enabled .httpRoute.enabled (not .httpRoute.parentRefs) }}
{{- fail "gateway.httpRoute.parentRefs: found nothing, and gateway.httpRoute.enabled is true; allowed: at least one Gateway, such as [{name: public, namespace: gateways}]" }}
{{- end }}
{{- if and .enabled .intake.enabled (not $.Values.intake.enabled) }}
{{- fail "gateway.intake.enabled: found true, and intake.enabled is false; allowed: with an intake" }}
{{- end }}
{{- if and .enabled .ingress.enabled (not .ingress.hosts) }}
{{- fail "gateway.ingress.hosts: found nothing, and gateway.ingress.enabled is true; allowed: at least one host name, such as [ranking.example.com]" }}
{{- end }}
{{- end }}
{{- if and (eq .Values.serving.scopeFrom "gateway") (not .Values.gateway.enabled) }}
{{- fail "serving.scopeFrom: found gateway, and gateway.enabled is false; allowed: nobody, because then nobody says what callers may see" }}
{{- end }}
{{- end }}
