{{/*
One operator serves a namespace, so what it is made of has fixed names: a second release is refused by Helm.
*/}}
{{- define "kthena-bridge.name" -}}
kthena-bridge
{{- end }}

{{/* Who is who, for selectors: it can never be changed. */}}
{{- define "kthena-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kthena-bridge.name" . }}
{{- end }}

{{/* Of everything that belongs to the release. */}}
{{- define "kthena-bridge.releaseLabels" -}}
{{- with .Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "kthena-bridge.labels" -}}
{{ include "kthena-bridge.selectorLabels" . }}
{{ include "kthena-bridge.releaseLabels" . }}
{{- end }}

{{- define "kthena-bridge.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "kthena-bridge.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "kthena-bridge.name" .) }}
{{- end }}

{{/* "true" where the replicas choose one that writes: more than one of them must. */}}
{{- define "kthena-bridge.leaderElection" -}}
{{- if or .Values.leaderElection.enabled (gt (int .Values.replicas) 1) -}}
true
{{- end }}
{{- end }}

{{/* The configuration file: what the roles were made for is not said twice. */}}
{{- define "kthena-bridge.config" -}}
{{- $config := .Values.config | default dict }}
{{- if $config.namespaces }}
{{- fail "config.namespaces: set watchNamespaces instead; it goes there by itself, and the roles are made for it" }}
{{- end }}
{{- if .Values.watchNamespaces }}
{{- $config = mergeOverwrite (deepCopy $config) (dict "namespaces" .Values.watchNamespaces) }}
{{- end }}
{{- toYaml $config }}
{{- end }}
