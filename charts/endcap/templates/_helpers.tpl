{{/* Names: <release>-endcap, or <release> if that contains the chart's name. */}}
{{- define "endcap.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "endcap.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "endcap.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "endcap.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels that select pods; they never change. Call it with (list $ component). */}}
{{- define "endcap.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "endcap.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "endcap.labels" -}}
{{- $root := index . 0 -}}
{{ include "endcap.selector" . }}
app.kubernetes.io/part-of: endcap
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* A digest names exactly one image, so it wins over the tag. */}}
{{- define "endcap.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What the Pod Security Standard `restricted` demands of a pod, and of a container. */}}
{{- define "endcap.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "endcap.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The fields of a pod that every component's values set in the same way. Call it with (list $ component values). */}}
{{- define "endcap.placement" -}}
{{- $root := index . 0 -}}
{{- with index . 2 -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "endcap.podLabels" -}}
{{- $given := (index . 2).podLabels | default dict -}}
{{- toYaml (merge (include "endcap.labels" (list (index . 0) (index . 1)) | fromYaml) $given) }}
{{- end }}

{{/* Host headers of MLflow's server: the Service's names with and without the port, and a port-forward's. */}}
{{- define "endcap.mlflowHosts" -}}
{{- $service := printf "%s-mlflow" (include "endcap.fullname" .) -}}
{{- $namespaced := printf "%s.%s" $service .Release.Namespace -}}
{{- $hosts := list "localhost" "localhost:*" "127.0.0.1" "127.0.0.1:*" -}}
{{- range list $service $namespaced (printf "%s.svc" $namespaced) (printf "%s.svc.%s" $namespaced .Values.clusterDomain) -}}
{{- $hosts = concat $hosts (list . (printf "%s:%v" . $.Values.mlflow.service.port)) -}}
{{- end -}}
{{- join "," (concat $hosts .Values.mlflow.allowedHosts) -}}
{{- end }}

{{- define "endcap.mlflowAddress" -}}
{{ ternary "http" "https" (eq .Values.tls.mlflow "plain") }}://{{ include "endcap.fullname" . }}-mlflow.{{ .Release.Namespace }}:{{ .Values.mlflow.service.port }}
{{- end }}

{{- define "endcap.gatewayAddress" -}}
{{- include "endcap.address" (list . "gateway" .Values.tls.gateway .Values.gateway.service.port) }}
{{- end }}

{{- define "endcap.intakeAddress" -}}
{{- include "endcap.address" (list . "intake" .Values.tls.intake .Values.intake.service.port) }}
{{- end }}

{{/* Of a Service. Called with (list $ component mode port). */}}
{{- define "endcap.address" -}}
{{- $root := index . 0 -}}
{{- $tls := ne (index . 2) "plain" -}}
{{- $port := int (index . 3) -}}
{{ ternary "https" "http" $tls }}://{{ include "endcap.fullname" $root }}-{{ index . 1 }}.{{ $root.Release.Namespace }}{{ if ne $port (ternary 443 80 $tls) }}:{{ $port }}{{ end }}
{{- end }}

{{/* MLflow needs a volume for SQLite, and for artifacts that are not in a bucket. */}}
{{- define "endcap.mlflowVolume" -}}
{{- if or (eq .Values.mlflow.backend.type "sqlite") (eq .Values.mlflow.artifacts.type "volume") }}yes{{ end }}
{{- end }}

{{- define "endcap.mlflowClaim" -}}
{{- .Values.mlflow.persistence.existingClaim | default (printf "%s-mlflow" (include "endcap.fullname" .)) }}
{{- end }}

{{/* Non-empty if KServe's storage initializer exists and a restricted namespace would refuse it. */}}
{{- define "endcap.unrestrictedInitializer" -}}
{{- if and .Values.serving.createNamespace (eq .Values.serving.podSecurity "restricted") (.Capabilities.APIVersions.Has "serving.kserve.io/v1alpha1/ClusterStorageContainer") }}
{{- with lookup "serving.kserve.io/v1alpha1" "ClusterStorageContainer" "" "default" }}
{{- if ne (dig "spec" "container" "securityContext" "allowPrivilegeEscalation" "unset" . | toString) "false" }}yes{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Namespaces that need the store's Secret, each once. */}}
{{- define "endcap.storeNamespaces" -}}
{{- $names := list .Values.serving.namespace -}}
{{- if and .Values.mlflow.enabled (eq .Values.mlflow.artifacts.type "s3") }}{{ $names = append $names .Release.Namespace }}{{ end -}}
{{- if or .Values.intake.enabled .Values.monitoring.store.enabled .Values.rollouts.enabled .Values.schedules.enabled }}{{ $names = append $names .Release.Namespace }}{{ end -}}
{{- if .Values.kfp.enabled }}{{ $names = append $names .Values.kfp.serviceAccount.namespace }}{{ end -}}
{{- $names | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* Ports and addresses that pods may connect to, as a rule of a NetworkPolicy. */}}
{{- define "endcap.egress" -}}
- ports:
  {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
  {{- end }}
  {{- with .cidrs }}
  to:
  {{- range . }}
    - ipBlock: {cidr: {{ . }}}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "endcap.egressDns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{/* A NetworkPolicy's peer: all pods of a namespace. */}}
{{- define "endcap.namespacePeer" -}}
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: {{ . }}}
{{- end }}

{{/* Predictor pods: KServe copies an InferenceService's labels to them. */}}
{{- define "endcap.predictorSelector" -}}
matchLabels: {app.kubernetes.io/managed-by: endcap}
matchExpressions:
  - {key: serving.kserve.io/inferenceservice, operator: Exists}
{{- end }}

{{/* A quantity in thousandths, so that all of them are whole numbers: 50m is 50, 1Ki is 1024000. */}}
{{- define "endcap.thousandths" -}}
{{- $text := kindIs "string" . | ternary (toString .) (printf "%f" (float64 .)) -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- $units := dict "" 1000 "m" 1 "k" 1000000 "M" 1000000000 "G" 1000000000000 "T" 1000000000000000 "P" 1000000000000000000 "Ki" 1024000 "Mi" 1048576000 "Gi" 1073741824000 "Ti" 1099511627776000 "Pi" 1125899906842624000 -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number $text)) | int64 -}}
{{- end }}

{{/* The sum of two quantities, as Kubernetes writes it. Call it with (list a b). */}}
{{- define "endcap.sum" -}}
{{- $sum := add (include "endcap.thousandths" (index . 0)) (include "endcap.thousandths" (index . 1)) -}}
{{- if eq (mod $sum 1048576000) 0 -}}
{{- printf "%dMi" (div $sum 1048576000) -}}
{{- else if eq (mod $sum 1000) 0 -}}
{{- div $sum 1000 -}}
{{- else -}}
{{- printf "%dm" $sum -}}
{{- end -}}
{{- end }}

{{/* Requests and limits of the gateway's container: Envoy's and the xDS service's added up. No limit for Envoy: none at all. */}}
{{- define "endcap.gatewayResources" -}}
{{- $all := dict -}}
{{- $envoy := .Values.gateway.resources -}}
{{- $xds := .Values.gateway.xds.resources -}}
{{- range $kind := list "requests" "limits" -}}
{{- $own := get $envoy $kind | default dict -}}
{{- $beside := get $xds $kind | default dict -}}
{{- $sum := dict -}}
{{- range $name, $quantity := eq $kind "requests" | ternary (merge (dict) $own $beside) $own -}}
{{- $_ := set $sum $name (include "endcap.sum" (list (get $own $name | default 0) (get $beside $name | default 0))) -}}
{{- end -}}
{{- if $sum }}{{ $_ := set $all $kind $sum }}{{ end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end }}

{{/* The label by which alerts and dashboards know a target. Call it with the component. */}}
{{- define "endcap.componentLabel" -}}
relabelings:
  - {targetLabel: endcap_component, replacement: {{ . }}}
{{- end }}
