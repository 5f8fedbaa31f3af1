{{/*
One operator serves a cluster, so what it is made of has fixed names: a second release is refused by Helm.
*/}}
{{- define "kthena-bridge.name" -}}
kthena-bridge
{{- end }}

{{/* Who is who, for selectors: it can never be changed. */}}
{{- define "kthena-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kthena-bridge.name" . }}
{{- end }}

{{- define "kthena-bridge.labels" -}}
{{ include "kthena-bridge.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "kthena-bridge.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}
