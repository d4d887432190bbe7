{{/* Refuse the values of an older chart, as `helm upgrade --reuse-values` gives them: they lack what is
     new since 0.1.0. The schema asks for none of it, since its words would not help. */}}
{{- define "tradingbots.refuseOldValues" -}}
{{- range list "backup" "metrics" "alerts" "dashboard" "space.serviceMonitor" "space.podMonitor" }}
{{- $names := splitList "." . }}
{{- $above := $.Values }}
{{- range initial $names }}
{{- $above = get $above . }}
{{- end }}
{{- if not (hasKey $above (last $names)) }}
{{- fail (printf "the values have no %s, as those of an older version of the chart: upgrade with --reset-then-reuse-values in the place of --reuse-values" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Labels of every object. Takes a dict: root, component. */}}
{{- define "tradingbots.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_." }}
app.kubernetes.io/version: {{ include "tradingbots.version" .root | trunc 63 | trimAll "-_." | quote }}
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

{{/* The version of packages and images; a label and a tag may hold no plus. */}}
{{- define "tradingbots.version" -}}
{{ .Chart.AppVersion | replace "+" "_" }}
{{- end }}

{{/* kronosbot -> tradingbot-kronos, kronosbot-report -> tradingbot-kronos-report */}}
{{- define "tradingbots.cronjobName" -}}
tradingbot-{{ regexReplaceAll "-?bot(-|$)" . "${1}" | trimSuffix "-" }}
{{- end }}

{{/* What a bot runs: kronosbot and kronosbot-report -> tradingbot.kronosbot */}}
{{- define "tradingbots.module" -}}
tradingbot.{{ splitList "-" . | first }}
{{- end }}

{{/* A digest alone names an image; a tag next to it is for the reader. Takes a dict: root, image. */}}
{{- define "tradingbots.image" -}}
{{- $tag := .image.tag }}
{{- if not (or $tag .image.digest) }}
{{- $tag = include "tradingbots.version" .root }}
{{- end -}}
image: "{{ .image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with .image.digest }}@{{ . }}{{ end }}"
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

{{/* Refuse a secret in plain text, which the release and every pod would show: what is named like one,
     and an address with a password in it. Takes a dict: root, where, env. */}}
{{- define "tradingbots.refuseSecrets" -}}
{{- $named := "(?i)(password|passwd|passphrase|secret|token|credentials?|key|dsn|notify|(^|_)(pass|pwd|auth)|(database|postgres|postgresql|pg|db|redis|mongo|mongodb|amqp)_?ur[il])_?[0-9]*$" }}
{{- $where := .where }}
{{- $secret := .root.Values.secretName }}
{{- range $name, $value := .env }}
{{- if eq $name "HF_TOKEN" }}
{{- fail (printf "%s: HF_TOKEN does not belong here: put it into the secret, from which kronosbot alone gets it" $where) }}
{{- end }}
{{- if not (or (kindIs "map" $value) (eq (toString $value) "")) }}
{{- if or (regexMatch $named $name) (regexMatch "://[^/@\\s]*:[^/@\\s]*@" (toString $value)) }}
{{- fail (printf "%s: %s is a secret, which anybody could read here: put it into the secret %s, or give {secretKeyRef: {name: …, key: …}}" $where $name $secret) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Refuse secrets in plain text wherever the values take settings. */}}
{{- define "tradingbots.refuseSecretsOfValues" -}}
{{- include "tradingbots.refuseSecrets" (dict "root" . "where" "env" "env" .Values.env) }}
{{- include "tradingbots.refuseSecrets" (dict "root" . "where" "space.env" "env" .Values.space.env) }}
{{- range .Values.bots }}
{{- $where := printf "bots: %s: env" .name }}
{{- include "tradingbots.refuseSecrets" (dict "root" $ "where" $where "env" (.env | default dict)) }}
{{- range concat (.command | default list) (.args | default list) }}
{{- if regexMatch "://[^/@\\s]*:[^/@\\s]*@" . }}
{{- fail (printf "%s: an address with a password in command or args, which anybody could read: give it as DATABASE_URL in the secret" (trimSuffix ": env" $where)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Variables that the values give, over those that the chart gives. Takes a dict: own, given (a list
     of dicts, of which a later one goes before). */}}
{{- define "tradingbots.mergedEnv" -}}
{{- $env := deepCopy .own }}
{{- range .given }}
{{- range $name, $value := . }}
{{- $_ := set $env $name $value }}
{{- end }}
{{- end }}
{{- if and $env.HF_SPACE_REPO (eq (toString $env.KRONOS_SPACE_URL) (include "tradingbots.defaultSpaceURL" .)) }}
{{- $_ := unset $env "KRONOS_SPACE_URL" }}
{{- end }}
{{- include "tradingbots.env" $env }}
{{- end }}

{{/* The address of the default Space, which gives way to that of an HF_SPACE_REPO. */}}
{{- define "tradingbots.defaultSpaceURL" -}}
https://guestros-kronos-trading-api.hf.space
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

{{/* Whose Space forecasts, for NOTES. */}}
{{- define "tradingbots.whoseSpace" -}}
{{- $repo := .Values.env.HF_SPACE_REPO }}
{{- $url := .Values.env.KRONOS_SPACE_URL }}
{{- if .Values.space.enabled -}}
the Space in this cluster, {{ include "tradingbots.spaceURL" . }}
{{- else if and $repo (eq (toString $url) (include "tradingbots.defaultSpaceURL" .)) -}}
the Space {{ kindIs "string" $repo | ternary $repo "that env.HF_SPACE_REPO refers to" }}
{{- else if eq (toString $url) (include "tradingbots.defaultSpaceURL" .) -}}
the default Space, guestros/kronos-trading-api at {{ $url }}.
With HF_TOKEN or KRONOS_API_KEY in the secret the bots use it only if you name it; or name your own:
  --set env.HF_SPACE_REPO=OWNER/NAME
{{- else if not (or $url $repo) -}}
nowhere: env.HF_SPACE_REPO and env.KRONOS_SPACE_URL are empty
{{- else -}}
{{ kindIs "map" $url | ternary "the address that env.KRONOS_SPACE_URL refers to" ($url | default (printf "the Space %v" $repo)) }}
{{- end }}
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
{{/* Takes how large it may become; the pod is evicted beyond it, before the node's disk is full. */}}
{{- define "tradingbots.tmpVolume" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ . }}
{{- end }}

{{/* This release's bots, its test and its backups, as a peer of a NetworkPolicy. */}}
{{- define "tradingbots.botsSelector" -}}
matchLabels:
  app.kubernetes.io/name: {{ .Chart.Name }}
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [bot, test, backup]
{{- end }}

{{/* The `env` that the values give the bot kronosbot. */}}
{{- define "tradingbots.envOfKronosbot" -}}
{{- $env := dict }}
{{- range .Values.bots }}
{{- if eq .name "kronosbot" }}
{{- $env = .env | default dict }}
{{- end }}
{{- end }}
{{- toYaml $env }}
{{- end }}

{{/* A ServiceMonitor or a PodMonitor, for the Prometheus operator. Takes a dict: root, component, port
     (its name), of (the values with serviceMonitor and podMonitor). */}}
{{- define "tradingbots.monitor" -}}
{{- $it := . }}
{{- if and .of.serviceMonitor.enabled .of.podMonitor.enabled }}
{{- fail (printf "%s: serviceMonitor and podMonitor would scrape the same twice: enable one of them" .component) }}
{{- end }}
{{- range $kind := list "ServiceMonitor" "PodMonitor" }}
{{- $values := index $it.of (untitle $kind) }}
{{- if $values.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: {{ $kind }}
metadata:
  name: {{ $it.root.Release.Name }}-{{ $it.component }}
  namespace: {{ $it.root.Release.Namespace }}
  labels:
    {{- include "tradingbots.labels" $it | nindent 4 }}
    {{- with $values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "tradingbots.selector" $it | nindent 6 }}
  {{ eq $kind "ServiceMonitor" | ternary "endpoints" "podMetricsEndpoints" }}:
    - port: {{ $it.port }}
      path: /metrics
      interval: {{ $values.interval }}
      {{- if $values.sendKey }}
      authorization:
        credentials:
          name: {{ $it.root.Values.secretName }}
          key: KRONOS_API_KEY
      {{- end }}
{{- end }}
{{- end }}
{{- end }}
