{{/* Non-empty if the gateway has certificates, for its clients or for the servers that it connects to. */}}
{{- define "endcap.gatewayTls" -}}
{{- with .Values.tls }}{{ if or (ne .gateway "plain") (ne .predictors "plain") (and $.Values.intake.enabled (ne .intake "plain")) }}yes{{ end }}{{ end }}
{{- end }}

{{/* Non-empty if an Envoy stands before MLflow. */}}
{{- define "endcap.mlflowFront" -}}
{{- if or (ne .Values.tls.mlflow "plain") .Values.mlflow.login.secretName }}yes{{ end }}
{{- end }}

{{/* A Secret's files, which only pods of our group can read. Call it with (list volume secret). */}}
{{- define "endcap.secretVolume" -}}
- name: {{ index . 0 }}
  secret: {secretName: {{ index . 1 }}, defaultMode: 0440}
{{- end }}

{{/* The gateway's name in certificates, which predictors and the intake check. */}}
{{- define "endcap.gatewayName" -}}
{{ include "endcap.fullname" . }}-gateway.{{ .Release.Namespace }}.svc
{{- end }}

{{/* The names of a Service, as JSON. Call it with (list $ service namespace). */}}
{{- define "endcap.serviceNames" -}}
{{- $short := printf "%s.%s" (index . 1) (index . 2) -}}
{{- list $short (printf "%s.svc" $short) (printf "%s.svc.%s" $short (index . 0).Values.clusterDomain) | toJson -}}
{{- end }}

{{/* A Certificate for cert-manager. Call it with (list $ component secret namespace names). */}}
{{- define "endcap.certificate" -}}
{{- $root := index . 0 -}}
{{- $settings := $root.Values.tls.certManager -}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ include "endcap.fullname" $root }}-{{ index . 1 }}
  namespace: {{ index . 3 }}
  labels: {{- include "endcap.labels" (list $root (index . 1)) | nindent 4 }}
spec:
  secretName: {{ index . 2 }}
  issuerRef: {{- toYaml $settings.issuer | nindent 4 }}
  duration: {{ $settings.duration }}
  renewBefore: {{ $settings.renewBefore }}
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, key encipherment, server auth, client auth]
  dnsNames:
    {{- range index . 4 }}
    - {{ . | quote }}
    {{- end }}
{{ end }}
