{{- define "analytics.name" -}}
{{ printf "%s-%s" .root.Release.Name .component }}
{{- end }}

{{- define "analytics.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "analytics.labels" -}}
{{ include "analytics.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "analytics.secret" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef: {name: {{ .secret.name | quote }}, key: {{ .secret.key | quote }}}
{{- end }}

{{/* The settings that every process needs. */}}
{{- define "analytics.env" -}}
{{- with .Values.secrets }}
{{ include "analytics.secret" (dict "variable" "ANALYTICS_REDIS_URL" "secret" .redisUrl) }}
{{ include "analytics.secret" (dict "variable" "ANALYTICS_POSTGRES_URL" "secret" .postgresUrl) }}
{{- if .brokerUrl.name }}
{{ include "analytics.secret" (dict "variable" "ANALYTICS_BROKER_URL" "secret" .brokerUrl) }}
{{- end }}
{{- if .userIdSecret.name }}
{{ include "analytics.secret" (dict "variable" "ANALYTICS_USER_ID_SECRET" "secret" .userIdSecret) }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: ANALYTICS_{{ upper $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- if .Values.metricsPort }}
- {name: ANALYTICS_METRICS_PORT, value: {{ .Values.metricsPort | quote }}}
- {name: ANALYTICS_METRICS_ADDRESS, value: {{ .Values.listenOn | quote }}}
{{- end }}
{{- end }}
