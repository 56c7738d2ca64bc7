{{- define "anomaly-operator.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "anomaly-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "anomaly-operator.labels" -}}
{{ include "anomaly-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: anomaly-operator
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "anomaly-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "anomaly-operator.fullname" .) .Values.serviceAccount.name }}{{ else }}{{ required "serviceAccount.name: name the ServiceAccount to use, or set serviceAccount.create to true" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "anomaly-operator.adminKeySecretName" -}}
{{- default (printf "%s-admin-key" (include "anomaly-operator.fullname" .)) .Values.adminKey.existingSecret }}
{{- end }}

{{- /* Takes a dict of `image` and `appVersion`. */ -}}
{{- define "anomaly-operator.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ default .appVersion .image.tag }}{{ end }}
{{- end }}
