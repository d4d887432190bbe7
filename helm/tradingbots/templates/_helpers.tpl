{{/* Labels of every object. Takes a dict: root, component. */}}
{{- define "tradingbots.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: kronos
{{ include "tradingbots.selector" . }}
{{- end }}

{{/* Those of them that never change, for selectors and long-lived pods. */}}
{{- define "tradingbots.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* kronosbot -> tradingbot-kronos, kronosbot-report -> tradingbot-kronos-report */}}
{{- define "tradingbots.cronjobName" -}}
tradingbot-{{ regexReplaceAll "-?bot(-|$)" . "${1}" | trimSuffix "-" }}
{{- end }}

{{/* What a bot runs: kronosbot and kronosbot-report -> tradingbot.kronosbot */}}
{{- define "tradingbots.module" -}}
tradingbot.{{ splitList "-" . | first }}
{{- end }}

{{/* Takes a dict: root, image. */}}
{{- define "tradingbots.image" -}}
image: {{ printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* What every pod has. Takes a dict: root, and user, the number that it runs as. */}}
{{- define "tradingbots.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* What every container has. */}}
{{- define "tradingbots.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Environment variables of a dict: name -> a text, a number, or what stands under valueFrom. */}}
{{- define "tradingbots.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  valueFrom:
    {{- toYaml $value | nindent 4 }}
  {{- else if kindIs "string" $value }}
  value: {{ $value | quote }}
  {{- else }}
  value: {{ $value | toJson | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Variables that the values give, over those that the chart gives. Takes a dict: own, given (a list
     of dicts, of which a later one goes before). */}}
{{- define "tradingbots.mergedEnv" -}}
{{- $env := deepCopy .own }}
{{- range .given }}
{{- if hasKey . "HF_TOKEN" }}
{{- fail "env: HF_TOKEN does not belong here: put it into the secret, from which kronosbot alone gets it" }}
{{- end }}
{{- range $name, $value := . }}
{{- $_ := set $env $name $value }}
{{- end }}
{{- end }}
{{- include "tradingbots.env" $env }}
{{- end }}

{{/* A variable from the secret of the same key, which may be missing. Takes a dict: root, name. */}}
{{- define "tradingbots.fromSecret" -}}
{{ .name }}: {secretKeyRef: {name: {{ .root.Values.secretName | quote }}, key: {{ .name }}, optional: true}}
{{- end }}

{{/* Where the database is: this chart's, or that of the values, or that of the secret. */}}
{{- define "tradingbots.database" -}}
{{- $database := .Values.database }}
{{- if .Values.postgres.enabled }}
{{- if $database.host }}
{{- fail "postgres.enabled and database.host name two databases: leave one of them out" }}
{{- end }}
POSTGRES_HOST: {{ .Release.Name }}-postgres
POSTGRES_USER: kronos
POSTGRES_DATABASE: kronos
POSTGRES_PASSWORD: {secretKeyRef: {name: {{ .Release.Name }}-postgres, key: POSTGRES_PASSWORD}}
{{- else if or $database.host $database.user $database.name }}
{{- if not (and $database.host $database.user $database.name) }}
{{- fail "database: host, user and name belong together: give all three" }}
{{- end }}
POSTGRES_HOST: {{ $database.host | quote }}
POSTGRES_PORT: {{ $database.port | quote }}
POSTGRES_USER: {{ $database.user | quote }}
POSTGRES_DATABASE: {{ $database.name | quote }}
{{ include "tradingbots.fromSecret" (dict "root" . "name" "POSTGRES_PASSWORD") }}
{{- else }}
{{- range list "DATABASE_URL" "POSTGRES_URI" "POSTGRES_HOST" "POSTGRES_PORT" "POSTGRES_USER" "POSTGRES_PASSWORD" "POSTGRES_DATABASE" }}
{{ include "tradingbots.fromSecret" (dict "root" $ "name" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Space's address within the cluster. */}}
{{- define "tradingbots.spaceURL" -}}
http://{{ .Release.Name }}-space:7860
{{- end }}

{{/* All variables of a pod that runs the bots' image. Takes a dict: root, env, the pod's own. */}}
{{- define "tradingbots.botEnv" -}}
{{- $secret := include "tradingbots.fromSecret" (dict "root" .root "name" "KRONOS_API_KEY") | fromYaml }}
{{- $own := merge $secret (include "tradingbots.database" .root | fromYaml) }}
{{- $space := .root.Values.space.enabled | ternary (dict "KRONOS_SPACE_URL" (include "tradingbots.spaceURL" .root)) dict }}
{{- include "tradingbots.mergedEnv" (dict "own" $own "given" (list .root.Values.env $space (.env | default dict))) }}
{{- end }}

{{/* A place to write, for the read-only rest. */}}
{{- define "tradingbots.tmpMount" -}}
- name: tmp
  mountPath: /tmp
{{- end }}
{{- define "tradingbots.tmpVolume" -}}
- name: tmp
  emptyDir: {}
{{- end }}
