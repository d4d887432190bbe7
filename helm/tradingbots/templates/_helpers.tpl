{{/* Refuse the values of an older chart, which `helm upgrade --reuse-values` passes: they lack the keys
     added since 0.1.0. The schema does not require these keys, because its error would not name the cause. */}}
{{- define "tradingbots.refuseOldValues" -}}
{{- range list "backup" "metrics" "alerts" "dashboard" "space.serviceMonitor" "space.podMonitor" }}
{{- $names := splitList "." . }}
{{- $above := $.Values }}
{{- range initial $names }}
{{- $above = get $above . }}
{{- end }}
{{- if not (hasKey $above (last $names)) }}
{{- fail (printf "the values have no %s, because they are from an older version of the chart: upgrade with --reset-then-reuse-values instead of --reuse-values" .) }}
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

{{/* Labels that never change, for selectors and long-lived pods. */}}
{{- define "tradingbots.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The version of packages and images. Labels and tags may not contain a plus. */}}
{{- define "tradingbots.version" -}}
{{ .Chart.AppVersion | replace "+" "_" }}
{{- end }}

{{/* kronosbot -> tradingbot-kronos, kronosbot-report -> tradingbot-kronos-report */}}
{{- define "tradingbots.cronjobName" -}}
tradingbot-{{ regexReplaceAll "-?bot(-|$)" . "${1}" | trimSuffix "-" }}
{{- end }}

{{/* The Python module of a bot: kronosbot and kronosbot-report -> tradingbot.kronosbot */}}
{{- define "tradingbots.module" -}}
tradingbot.{{ splitList "-" . | first }}
{{- end }}

{{/* The image and its pull policy. With a digest the tag is optional and only informative.
     Takes a dict: root, image. */}}
{{- define "tradingbots.image" -}}
{{- $tag := .image.tag }}
{{- if not (or $tag .image.digest) }}
{{- $tag = include "tradingbots.version" .root }}
{{- end -}}
image: "{{ .image.repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with .image.digest }}@{{ . }}{{ end }}"
imagePullPolicy: {{ .image.pullPolicy }}
{{- end }}

{{/* Settings common to all pods. Takes a dict: root, user (the numeric user ID). */}}
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

{{/* Settings common to all containers. */}}
{{- define "tradingbots.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Environment variables from a dict: name -> a string, a number or the contents of valueFrom. */}}
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

{{/* Refuse secrets in plain text, because the release and every pod would show them: variables with a
     secret-like name, and URLs with a password. Takes a dict: root, where, env. */}}
{{- define "tradingbots.refuseSecrets" -}}
{{- $named := "(?i)(password|passwd|passphrase|secret|token|credentials?|key|dsn|notify|(^|_)(pass|pwd|auth)|(database|postgres|postgresql|pg|db|redis|mongo|mongodb|amqp)_?ur[il])_?[0-9]*$" }}
{{- $where := .where }}
{{- $secret := .root.Values.secretName }}
{{- range $name, $value := .env }}
{{- if eq $name "HF_TOKEN" }}
{{- fail (printf "%s: HF_TOKEN does not belong here: put it into the secret, which passes it to kronosbot only" $where) }}
{{- end }}
{{- if not (or (kindIs "map" $value) (eq (toString $value) "")) }}
{{- if or (regexMatch $named $name) (regexMatch "://[^/@\\s]*:[^/@\\s]*@" (toString $value)) }}
{{- fail (printf "%s: %s is a secret that anybody could read here: put it into the secret %s, or give {secretKeyRef: {name: …, key: …}}" $where $name $secret) }}
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
{{- fail (printf "%s: command or args contain an address with a password that anybody could read: put it into the secret as DATABASE_URL" (trimSuffix ": env" $where)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The chart's variables, overridden by those of the values. Takes a dict: defaults, overrides (a list
     of dicts; later ones take precedence). */}}
{{- define "tradingbots.mergedEnv" -}}
{{- $env := deepCopy .defaults }}
{{- range .overrides }}
{{- range $name, $value := . }}
{{- $_ := set $env $name $value }}
{{- end }}
{{- end }}
{{- if and $env.HF_SPACE_REPO (eq (toString $env.KRONOS_SPACE_URL) (include "tradingbots.defaultSpaceURL" .)) }}
{{- $_ := unset $env "KRONOS_SPACE_URL" }}
{{- end }}
{{- include "tradingbots.env" $env }}
{{- end }}

{{/* The address of the default Space. HF_SPACE_REPO overrides it. */}}
{{- define "tradingbots.defaultSpaceURL" -}}
https://guestros-kronos-trading-api.hf.space
{{- end }}

{{/* A variable from the key of the same name in the secret. The key may be missing. Takes a dict: root,
     name. */}}
{{- define "tradingbots.fromSecret" -}}
{{ .name }}: {secretKeyRef: {name: {{ .root.Values.secretName | quote }}, key: {{ .name }}, optional: true}}
{{- end }}

{{/* Variables of the database: this chart's Postgres, the database of the values, or the secret's. */}}
{{- define "tradingbots.database" -}}
{{- $database := .Values.database }}
{{- if .Values.postgres.enabled }}
{{- if $database.host }}
{{- fail "postgres.enabled and database.host name two databases: remove one of them" }}
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

{{/* The Space that the bots use, in words, for NOTES. */}}
{{- define "tradingbots.spaceInUse" -}}
{{- $repo := .Values.env.HF_SPACE_REPO }}
{{- $url := .Values.env.KRONOS_SPACE_URL }}
{{- if .Values.space.enabled -}}
the Space in this cluster, {{ include "tradingbots.spaceURL" . }}
{{- else if and $repo (eq (toString $url) (include "tradingbots.defaultSpaceURL" .)) -}}
the Space {{ kindIs "string" $repo | ternary $repo "that env.HF_SPACE_REPO refers to" }}
{{- else if eq (toString $url) (include "tradingbots.defaultSpaceURL" .) -}}
the default Space, guestros/kronos-trading-api at {{ $url }}.
If the secret has HF_TOKEN or KRONOS_API_KEY, set this Space or your own explicitly:
  --set env.HF_SPACE_REPO=OWNER/NAME
{{- else if not (or $url $repo) -}}
nowhere: env.HF_SPACE_REPO and env.KRONOS_SPACE_URL are empty
{{- else -}}
{{ kindIs "map" $url | ternary "the address that env.KRONOS_SPACE_URL refers to" ($url | default (printf "the Space %v" $repo)) }}
{{- end }}
{{- end }}

{{/* All variables of a pod that runs the bots' image. Takes a dict: root, env (of this pod). */}}
{{- define "tradingbots.botEnv" -}}
{{- $secret := include "tradingbots.fromSecret" (dict "root" .root "name" "KRONOS_API_KEY") | fromYaml }}
{{- $defaults := merge $secret (include "tradingbots.database" .root | fromYaml) }}
{{- $space := .root.Values.space.enabled | ternary (dict "KRONOS_SPACE_URL" (include "tradingbots.spaceURL" .root)) dict }}
{{- include "tradingbots.mergedEnv" (dict "defaults" $defaults "overrides" (list .root.Values.env $space (.env | default dict))) }}
{{- end }}

{{/* A writable /tmp, because the root file system is read-only. */}}
{{- define "tradingbots.tmpMount" -}}
- name: tmp
  mountPath: /tmp
{{- end }}
{{/* Takes the size limit. A pod that exceeds it is evicted before the node's disk is full. */}}
{{- define "tradingbots.tmpVolume" -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ . }}
{{- end }}

{{/* This release's bots, test and backups, as a NetworkPolicy peer. */}}
{{- define "tradingbots.botsSelector" -}}
matchLabels:
  app.kubernetes.io/name: {{ .Chart.Name }}
  app.kubernetes.io/instance: {{ .Release.Name }}
matchExpressions:
  - key: app.kubernetes.io/component
    operator: In
    values: [bot, test, backup]
{{- end }}

{{/* The `env` of the bot kronosbot in the values. */}}
{{- define "tradingbots.envOfKronosbot" -}}
{{- $env := dict }}
{{- range .Values.bots }}
{{- if eq .name "kronosbot" }}
{{- $env = .env | default dict }}
{{- end }}
{{- end }}
{{- toYaml $env }}
{{- end }}

{{/* A ServiceMonitor or a PodMonitor for the Prometheus operator. Takes a dict: root, component, port (its
     name), values (those with serviceMonitor and podMonitor). */}}
{{- define "tradingbots.monitor" -}}
{{- $args := . }}
{{- if and .values.serviceMonitor.enabled .values.podMonitor.enabled }}
{{- fail (printf "%s: serviceMonitor and podMonitor would scrape the same pods twice: enable only one of them" .component) }}
{{- end }}
{{- range $kind := list "ServiceMonitor" "PodMonitor" }}
{{- $values := index $args.values (untitle $kind) }}
{{- if $values.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: {{ $kind }}
metadata:
  name: {{ $args.root.Release.Name }}-{{ $args.component }}
  namespace: {{ $args.root.Release.Namespace }}
  labels:
    {{- include "tradingbots.labels" $args | nindent 4 }}
    {{- with $values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "tradingbots.selector" $args | nindent 6 }}
  {{ eq $kind "ServiceMonitor" | ternary "endpoints" "podMetricsEndpoints" }}:
    - port: {{ $args.port }}
      path: /metrics
      interval: {{ $values.interval }}
      {{- if $values.sendKey }}
      authorization:
        credentials:
          name: {{ $args.root.Values.secretName }}
          key: KRONOS_API_KEY
      {{- end }}
{{- end }}
{{- end }}
{{- end }}
