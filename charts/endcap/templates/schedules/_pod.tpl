{{/* A pod that runs a command with the store and the registry, without a token of the API server.
Call it with (list $ component restartPolicy container), where the container has command, args, env, ports, probes, resources. */}}
{{- define "endcap.schedulesPod" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $schedules := $root.Values.schedules -}}
{{- $container := index . 3 -}}
{{- /* Jobs start no runs, so they have nothing of KFP's. */}}
{{- $kfp := eq $component "schedules" -}}
{{- $tls := and $root.Values.mlflow.enabled (ne $root.Values.tls.mlflow "plain") (not $schedules.registry) -}}
serviceAccountName: {{ include "endcap.fullname" $root }}-schedules
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: {{ index . 2 }}
securityContext: {{- include "endcap.podSecurity" $root | nindent 2 }}
terminationGracePeriodSeconds: 60
containers:
  - name: {{ $component }}
    image: {{ include "endcap.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    workingDir: {{ $schedules.workingDir | default "/etc/endcap" }}
    {{- toYaml (omit $container "env") | nindent 4 }}
    envFrom:
      - secretRef: {name: {{ $root.Values.store.secretName }}}
    env:
      - {name: HOME, value: /tmp}
      # Where the store's certificates are looked for.
      - {name: ENDCAP_S3_SECRET, value: /var/run/secrets/endcap/store}
      - {name: ENDCAP_STORE, value: {{ $schedules.store }}}
      {{- if or $schedules.registry $root.Values.mlflow.enabled }}
      - {name: ENDCAP_REGISTRY, value: {{ $schedules.registry | default (include "endcap.mlflowAddress" $root) }}}
      {{- end }}
      {{- if $tls }}
      - {name: MLFLOW_TRACKING_SERVER_CERT_PATH, value: /var/run/secrets/endcap/mlflow/ca.crt}
      {{- end }}
      {{- if $kfp }}
      - {name: KFP_ENDPOINT, value: {{ $schedules.kfp.host | default (printf "http://ml-pipeline.%s.svc.%s:8888" $schedules.kfp.namespace $root.Values.clusterDomain) }}}
      {{- with $schedules.kfp.userNamespace }}
      - {name: KFP_USER_NAMESPACE, value: {{ . }}}
      {{- end }}
      - {name: KF_PIPELINES_SA_TOKEN_PATH, value: /var/run/secrets/kubeflow/pipelines/token}
      {{- if $schedules.kfp.caSecretName }}
      - {name: KFP_CA, value: /var/run/secrets/endcap/kfp/ca.crt}
      {{- end }}
      {{- end }}
      {{- with $container.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with $schedules.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    securityContext: {{- include "endcap.containerSecurity" $root | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: store, mountPath: /var/run/secrets/endcap/store, readOnly: true}
      {{- if $kfp }}
      - {name: kfp-token, mountPath: /var/run/secrets/kubeflow/pipelines, readOnly: true}
      {{- end }}
      {{- if not $schedules.workingDir }}
      - {name: specs, mountPath: /etc/endcap/pipelines/specs, readOnly: true}
      {{- end }}
      {{- if $tls }}
      - {name: mlflow, mountPath: /var/run/secrets/endcap/mlflow, readOnly: true}
      {{- end }}
      {{- if and $kfp $schedules.kfp.caSecretName }}
      - {name: kfp-ca, mountPath: /var/run/secrets/endcap/kfp, readOnly: true}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: {{ $schedules.scratchSize }}}
  - name: store
    secret: {secretName: {{ $root.Values.store.secretName }}, defaultMode: 0440}
  {{- if $kfp }}
  # KFP takes this token, and the API server does not.
  - name: kfp-token
    projected:
      defaultMode: 0440
      sources:
        - serviceAccountToken: {path: token, audience: {{ $schedules.kfp.audience }}, expirationSeconds: 7200}
  {{- end }}
  {{- if not $schedules.workingDir }}
  - name: specs
    configMap:
      name: {{ include "endcap.fullname" $root }}-schedules
      items:
        {{- range $name, $_ := $schedules.specs }}
        - {key: {{ $name }}.yaml, path: {{ $name }}.yaml}
        {{- end }}
        {{- range $name, $_ := $schedules.shops }}
        - {key: shops.{{ $name }}.yaml, path: shops/{{ $name }}.yaml}
        {{- end }}
  {{- end }}
  {{- if $tls }}
  - name: mlflow
    secret: {secretName: {{ $root.Values.tls.secrets.mlflow }}, defaultMode: 0440, items: [{key: ca.crt, path: ca.crt}]}
  {{- end }}
  {{- if and $kfp $schedules.kfp.caSecretName }}
  - name: kfp-ca
    secret: {secretName: {{ $schedules.kfp.caSecretName }}, defaultMode: 0440, items: [{key: ca.crt, path: ca.crt}]}
  {{- end }}
{{- with include "endcap.placement" (list $root $component $schedules) | trim }}
{{ . }}
{{- end }}
{{- end }}

{{/* What all pods' metadata have. A change of the specs makes new pods: they are read at the start. */}}
{{- define "endcap.schedulesPodMetadata" -}}
{{- $root := index . 0 -}}
{{- $schedules := $root.Values.schedules -}}
labels: {{- include "endcap.podLabels" (list $root (index . 1) $schedules) | nindent 2 }}
annotations:
  endcap.dev/specs: {{ list $schedules.specs $schedules.shops | toJson | sha256sum }}
  {{- with $schedules.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The words by which runs are started, as a list in JSON. */}}
{{- define "endcap.schedulesArguments" -}}
{{- $schedules := .Values.schedules -}}
{{- $words := list "--on=kfp" (printf "--at-once=%d" (int $schedules.atOnce)) -}}
{{- with $schedules.environment }}{{ $words = append $words (printf "--env=%s" .) }}{{ end -}}
{{- $words | toJson -}}
{{- end }}

{{/* What a CronJob has besides its pod. Call it with (list cron timeZone deadlineSeconds). One runs at a time. */}}
{{- define "endcap.cronJob" -}}
schedule: {{ index . 0 | quote }}
timeZone: {{ index . 1 | quote }}
concurrencyPolicy: Forbid
# A controller that was away for longer leaves a time out. It gives up on a job that missed a hundred.
startingDeadlineSeconds: 3600
successfulJobsHistoryLimit: 3
failedJobsHistoryLimit: 3
{{- end }}
