{{/*
A pod of one container. Takes root, component, args, and where they differ from none: graceS, env,
ports (a list of name and containerPort), probes (YAML), drains (seconds to wait before it ends, so
that it is out of the endpoints first), restartPolicy.
*/}}
{{- define "analytics.podSpec" -}}
{{- $values := .root.Values -}}
{{- $own := index $values .component -}}
automountServiceAccountToken: false
# Names of services must not become settings.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .graceS | default 30 }}
{{- with .restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
{{- with $values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
containers:
  - name: {{ .component }}
    image: {{ printf "%s:%s" $values.image.repository ($values.image.tag | default .root.Chart.AppVersion) | quote }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: {{ toJson .args }}
    env:
      {{- include "analytics.env" .root | nindent 6 }}
      {{- with .env }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $own.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .ports }}
    ports:
      {{- range . }}
      - {name: {{ .name }}, containerPort: {{ .containerPort }}}
      {{- end }}
    {{- end }}
    {{- with .probes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .drains }}
    lifecycle:
      preStop: {exec: {command: [sleep, {{ . | quote }}]}}
    {{- end }}
    resources: {{- toYaml $own.resources | nindent 6 }}
    securityContext:
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if gt (int ($own.replicas | default 1)) 1 }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "analytics.selector" . | nindent 8 }}
{{- end }}
{{- end }}

{{/* The same as a Deployment. Takes also scrape: the port that Prometheus reads; scaled: whether
another decides the number of replicas. */}}
{{- define "analytics.deployment" -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "analytics.name" . }}
  labels: {{- include "analytics.labels" . | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ (index $values .component).replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector:
    matchLabels: {{- include "analytics.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "analytics.labels" . | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        {{- if .scrape }}
        prometheus.io/scrape: "true"
        prometheus.io/port: {{ .scrape | quote }}
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec: {{- include "analytics.podSpec" . | nindent 6 }}
{{- end }}

{{/* Service and, where a host is given, Ingress of a component that has a port called http. */}}
{{- define "analytics.service" -}}
{{- $own := index .root.Values .component -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "analytics.name" . }}
  labels: {{- include "analytics.labels" . | nindent 4 }}
  {{- with $own.service.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $own.service.type }}
  selector: {{- include "analytics.selector" . | nindent 4 }}
  ports:
    - {name: http, port: {{ $own.service.port }}, targetPort: http, protocol: TCP}
{{- with $own.ingress }}
{{- if .host }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ include "analytics.name" $ }}
  labels: {{- include "analytics.labels" $ | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .tlsSecret }}
  tls:
    - {hosts: [{{ $own.ingress.host | quote }}], secretName: {{ . | quote }}}
  {{- end }}
  rules:
    - host: {{ .host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service: {name: {{ include "analytics.name" $ }}, port: {name: http}}
{{- end }}
{{- end }}
{{- end }}

{{- define "analytics.disruption" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "analytics.name" . }}
  labels: {{- include "analytics.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "analytics.selector" . | nindent 6 }}
{{- end }}

{{/* Whether a Celery process has said in Redis of late that it lives; holds while Redis is full or away.
Ten minutes of silence, since Redis has all that workers hold. */}}
{{- define "analytics.answers" -}}
livenessProbe:
  exec:
    command: [sh, -c, analytics status --node {{ . }}@$HOSTNAME]
  initialDelaySeconds: 60
  periodSeconds: 60
  timeoutSeconds: 20
  failureThreshold: 10
{{- end }}
