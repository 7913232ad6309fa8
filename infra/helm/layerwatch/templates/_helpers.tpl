{{- define "layerwatch.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "layerwatch.labels" -}}
app.kubernetes.io/name: layerwatch
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: layerwatch
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "layerwatch.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "layerwatch.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "layerwatch.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* Settings of every process, as environment variables. */}}
{{- define "layerwatch.env" -}}
- {name: LAYERWATCH_STATE_DIR, value: /var/lib/layerwatch}
- {name: LAYERWATCH_HTTP_HOST, value: 0.0.0.0}
- {name: LAYERWATCH_HISTORY__HTTP_HOST, value: 0.0.0.0}
- {name: LAYERWATCH_HISTORY__URL, value: "http://{{ include "layerwatch.name" . }}-history:19310"}
- {name: LAYERWATCH_LOG__FORMAT, value: json}
- {name: LAYERWATCH_KAFKA__BOOTSTRAP, value: {{ .Values.kafka.bootstrap | quote }}}
- {name: LAYERWATCH_KAFKA__PARTITIONS, value: {{ .Values.kafka.partitions | quote }}}
- {name: LAYERWATCH_KAFKA__REPLICATION, value: {{ .Values.kafka.replication | quote }}}
- {name: LAYERWATCH_KAFKA__SECURITY, value: {{ .Values.kafka.security }}}
{{- if hasPrefix "SASL" .Values.kafka.security }}
- {name: LAYERWATCH_KAFKA__SASL_MECHANISM, value: {{ .Values.kafka.saslMechanism }}}
- {name: LAYERWATCH_KAFKA__USERNAME, value: {{ .Values.kafka.username | quote }}}
- {name: LAYERWATCH_KAFKA__PASSWORD_FILE, value: "/run/secrets/layerwatch-kafka-password/{{ .Values.kafka.passwordSecret.key }}"}
{{- end }}
{{- if .Values.kafka.caSecret.name }}
- {name: LAYERWATCH_KAFKA__CA_FILE, value: "/run/secrets/layerwatch-kafka-ca/{{ .Values.kafka.caSecret.key }}"}
{{- end }}
{{- if .Values.kafka.clientCertSecret }}
- {name: LAYERWATCH_KAFKA__CERT_FILE, value: /run/secrets/layerwatch-kafka-client/tls.crt}
- {name: LAYERWATCH_KAFKA__KEY_FILE, value: /run/secrets/layerwatch-kafka-client/tls.key}
{{- end }}
{{- if .Values.services }}
- {name: LAYERWATCH_SERVICES, value: /etc/layerwatch/services.toml}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "layerwatch.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if hasPrefix "SASL" .Values.kafka.security }}
- {name: kafka-password, mountPath: /run/secrets/layerwatch-kafka-password, readOnly: true}
{{- end }}
{{- if .Values.kafka.caSecret.name }}
- {name: kafka-ca, mountPath: /run/secrets/layerwatch-kafka-ca, readOnly: true}
{{- end }}
{{- if .Values.kafka.clientCertSecret }}
- {name: kafka-client, mountPath: /run/secrets/layerwatch-kafka-client, readOnly: true}
{{- end }}
{{- if .Values.services }}
- {name: services, mountPath: /etc/layerwatch, readOnly: true}
{{- end }}
{{- end }}

{{- define "layerwatch.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- if hasPrefix "SASL" .Values.kafka.security }}
- {name: kafka-password, secret: {secretName: {{ .Values.kafka.passwordSecret.name }}}}
{{- end }}
{{- if .Values.kafka.caSecret.name }}
- {name: kafka-ca, secret: {secretName: {{ .Values.kafka.caSecret.name }}}}
{{- end }}
{{- if .Values.kafka.clientCertSecret }}
- {name: kafka-client, secret: {secretName: {{ .Values.kafka.clientCertSecret }}}}
{{- end }}
{{- if .Values.services }}
- {name: services, configMap: {name: {{ include "layerwatch.name" . }}-services}}
{{- end }}
{{- end }}

{{- define "layerwatch.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
