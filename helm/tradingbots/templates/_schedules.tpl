{{/* Refuse schedules with reversed ranges, before Kubernetes refuses the CronJobs one by one, and
     unknown time zones. The schema checks everything else. */}}
{{- define "tradingbots.refuseSchedules" -}}
{{- $names := dict "SUN" 0 "MON" 1 "TUE" 2 "WED" 3 "THU" 4 "FRI" 5 "SAT" 6 "JAN" 1 "FEB" 2 "MAR" 3 "APR" 4 "MAY" 5 "JUN" 6 "JUL" 7 "AUG" 8 "SEP" 9 "OCT" 10 "NOV" 11 "DEC" 12 }}
{{- $schedules := list .Values.backup.schedule }}
{{- range .Values.bots }}
{{- $schedules = append $schedules .schedule }}
{{- end }}
{{- range $schedule := $schedules }}
{{- range regexFindAll "[A-Za-z0-9]+-[A-Za-z0-9]+" $schedule -1 }}
{{- $ends := list }}
{{- range splitList "-" . }}
{{- $ends = append $ends (get $names (upper .) | default . | toString | atoi) }}
{{- end }}
{{- if gt (first $ends) (last $ends) }}
{{- fail (printf "schedule %q: the range %s is reversed: split it, as in 22-23,0-2" $schedule .) }}
{{- end }}
{{- end }}
{{- end }}
{{- $day := toDate "2006-01-02" "2024-01-01" }}
{{- $zone := .Values.timeZone }}
{{- /* dateInZone reads an unknown name as UTC, and every name if there is no time zone database */}}
{{- /* Kubernetes knows these older names; a machine may not, such as Debian 13 without tzdata-legacy */}}
{{- $older := "^((US|Canada|Brazil|Chile|Mexico)/[A-Z][A-Za-z_-]+|(EST5E|CST6C|MST7M|PST8P)DT|GB|NZ|Japan|Singapore|Hongkong)$" }}
{{- $known := ne (dateInZone "MST" $day "Asia/Tokyo") "UTC" }}
{{- if and $known (eq (dateInZone "MST" $day $zone) "UTC") (not (regexMatch "^(Etc/)?(UTC|UCT|Universal|Zulu)$" $zone)) (not (regexMatch $older $zone)) }}
{{- fail (printf "timeZone %q is unknown: give an IANA name such as Etc/UTC or America/New_York" $zone) }}
{{- end }}
{{- end }}
