{{- define "multilora.name" -}}
{{- printf "%s-multilora" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of one part; its context is (list $ "store"). */}}
{{- define "multilora.selector" -}}
app.kubernetes.io/name: multilora
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "multilora.labels" -}}
{{ include "multilora.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{- define "multilora.hasTls" -}}
{{- if ne .Values.tls.mode "off" }}true{{ end -}}
{{- end }}

{{- define "multilora.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "multilora.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "multilora.storeImage" -}}
{{ .Values.store.image.repository }}:{{ .Values.store.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "multilora.inferenceImage" -}}
{{ .Values.inference.image.repository }}:{{ .Values.inference.image.tag | default (printf "%s-%s" .Chart.AppVersion .Values.inference.device) }}
{{- end }}

{{/* Environment of both services: access control and TLS. */}}
{{- define "multilora.exposure" -}}
- {name: MULTILORA_AUTH, value: {{ ternary "on" "off" .Values.auth.enabled | quote }}}
{{- if include "multilora.hasTls" . }}
- {name: MULTILORA_TLS_CERT_FILE, value: /tls/tls.crt}
- {name: MULTILORA_TLS_KEY_FILE, value: /tls/tls.key}
{{- end }}
{{- if not (and .Values.auth.enabled (include "multilora.hasTls" .)) }}
- {name: MULTILORA_ALLOW_REMOTE, value: "true"}
{{- end }}
{{- end }}

{{- define "multilora.databaseUrl" -}}
{{- if .Values.bundled.enabled -}}
postgresql://multilora@{{ include "multilora.name" . }}-postgres:5432/multilora
{{- else -}}
{{ .Values.database.url }}
{{- end -}}
{{- end }}

{{- define "multilora.blobUrl" -}}
{{- if .Values.bundled.enabled -}}
s3://multilora?endpoint=http://{{ include "multilora.name" . }}-minio:9000
{{- else -}}
{{ .Values.blobs.url }}
{{- end -}}
{{- end }}

{{/* Environment and mounts of whatever opens the store's database and bucket. */}}
{{- define "multilora.placeEnvironment" -}}
- {name: MULTILORA_DATABASE_URL, value: {{ include "multilora.databaseUrl" . | quote }}}
- {name: MULTILORA_DATABASE_PASSWORD_FILE, value: /secrets/database/password}
- {name: MULTILORA_BLOB_URL, value: {{ include "multilora.blobUrl" . | quote }}}
{{- if .Values.bundled.enabled }}
- name: MINIO_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.bundled.secret }}, key: s3-user}}
- name: MINIO_SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.bundled.secret }}, key: s3-password}}
{{- else }}
- {name: MULTILORA_BLOB_CREDENTIALS_FILE, value: /secrets/blobs/credentials}
{{- end }}
{{- end }}

{{- define "multilora.placeMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: database, mountPath: /secrets/database, readOnly: true}
{{- if not .Values.bundled.enabled }}
- {name: blobs, mountPath: /secrets/blobs, readOnly: true}
{{- end }}
{{- end }}

{{- define "multilora.placeVolumes" -}}
- name: tmp
  emptyDir: {}
- name: database
  secret:
    secretName: {{ ternary .Values.bundled.secret .Values.database.passwordSecret .Values.bundled.enabled }}
    items: [{key: {{ ternary "postgres-password" .Values.database.passwordKey .Values.bundled.enabled }}, path: password}]
{{- if not .Values.bundled.enabled }}
- name: blobs
  secret:
    secretName: {{ .Values.blobs.credentialsSecret }}
    items: [{key: {{ .Values.blobs.credentialsKey }}, path: credentials}]
{{- end }}
{{- end }}

{{- define "multilora.tlsVolume" -}}
{{- if include "multilora.hasTls" . }}
- name: tls
  secret: {secretName: {{ .Values.tls.secretName }}}
{{- end }}
{{- end }}

{{- define "multilora.tlsMount" -}}
{{- if include "multilora.hasTls" . }}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- end }}

{{/* How a probe asks a service for its health; (list $ "--store" 7001). Kubernetes' own gRPC probes know no TLS. */}}
{{- define "multilora.health" -}}
{{- if include "multilora.hasTls" (index . 0) -}}
exec: {command: [multilora, health, {{ index . 1 }}, "localhost:{{ index . 2 }}", --ca-file, /tls/ca.crt]}
{{- else -}}
grpc: {port: {{ index . 2 }}}
{{- end -}}
{{- end }}

{{/* New pods go where the fewest of their kind are; (list $ "store"). */}}
{{- define "multilora.spread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: {matchLabels: {{ include "multilora.selector" $ | fromYaml | toJson }}}
{{- end }}
{{- end }}
