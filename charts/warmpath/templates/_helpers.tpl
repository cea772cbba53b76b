{{/* The names of what the release makes, and the flags that its processes share. */}}
{{- define "warmpath.name" -}}
{{- if contains "warmpath" .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- else -}}{{ printf "%s-warmpath" .Release.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "warmpath.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: warmpath
{{- end -}}

{{/* Of the pods of one component: (dict "root" $ "component" "gateway"). */}}
{{- define "warmpath.selector" -}}
app.kubernetes.io/name: warmpath
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "warmpath.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "warmpath.account" -}}
{{ .Values.serviceAccount.name | default (printf "%s-controller" (include "warmpath.name" .)) }}
{{- end -}}

{{- define "warmpath.management" -}}
{{ include "warmpath.name" . }}-management
{{- end -}}

{{- define "warmpath.etcd" -}}
{{ include "warmpath.name" . }}-etcd
{{- end -}}

{{- define "warmpath.registry" -}}
{{- $prefix := .Values.etcd.prefix | default (printf "/warmpath/%s" .Release.Namespace) -}}
{{- $scheme := ternary "etcds" "etcd" (ternary .Values.peerTls.enabled .Values.etcd.tls .Values.etcd.enabled) -}}
{{- if .Values.etcd.enabled -}}
{{ printf "%s://%s:2379%s" $scheme (include "warmpath.etcd" .) $prefix }}
{{- else -}}
{{ printf "%s://%s%s" $scheme (join "," .Values.etcd.endpoints) $prefix }}
{{- end -}}
{{- end -}}

{{/* A YAML list of flags that lead to the registry. */}}
{{- define "warmpath.registryFlags" -}}
- --registry={{ include "warmpath.registry" . }}
{{- if and .Values.etcd.enabled .Values.peerTls.enabled }}
- --etcd-ca=/etcd-config/ca.crt
- --etcd-cert=/etcd-config/tls.crt
- --etcd-key=/etcd-config/tls.key
{{- else if not .Values.etcd.enabled }}
{{- with .Values.etcd }}
{{- $shows := or (eq .clientCertificate "always") (and (eq .clientCertificate "") (not .user)) }}
{{- if and (not .tls) (or .serverName (eq .clientCertificate "always")) }}{{ fail "etcd.serverName and etcd.clientCertificate: always need etcd.tls" }}{{ end }}
{{- if and (not .secretName) (or .user (eq .clientCertificate "always")) }}{{ fail "etcd.user and etcd.clientCertificate: always need etcd.secretName" }}{{ end }}
{{- if and .tls .secretName }}
- --etcd-ca=/etcd-config/ca.crt
{{- if $shows }}
- --etcd-cert=/etcd-config/tls.crt
- --etcd-key=/etcd-config/tls.key
{{- end }}
{{- end }}
{{- with .serverName }}
- --etcd-server-name={{ . }}
{{- end }}
{{- with .user }}
- --etcd-user={{ . }}
- --etcd-password-file=/etcd-config/password
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "warmpath.etcdSecret" -}}
{{- if not .Values.etcd.enabled -}}{{ .Values.etcd.secretName }}{{- else if .Values.peerTls.enabled -}}{{ include "warmpath.etcd" . }}-client{{- end -}}
{{- end -}}

{{/* Who a process is to its peers: empty when they speak plain text. */}}
{{- define "warmpath.gatewaySecret" -}}
{{- if .Values.peerTls.enabled -}}{{ .Values.peerTls.gatewaySecretName | default (printf "%s-gateway-peer" (include "warmpath.name" .)) }}{{- end -}}
{{- end -}}

{{- define "warmpath.adapterSecret" -}}
{{- if .Values.peerTls.enabled -}}{{ .Values.peerTls.adapterSecretName | default (printf "%s-adapter-peer" (include "warmpath.name" .)) }}{{- end -}}
{{- end -}}

{{/* Of the inference ports: empty when they speak plain text. */}}
{{- define "warmpath.tlsSecret" -}}
{{- if .Values.tls.enabled -}}{{ .Values.tls.secretName | default (printf "%s-serving" (include "warmpath.name" .)) }}{{- end -}}
{{- end -}}

{{/* Whether the inference ports answer plain text: empty when they do not. */}}
{{- define "warmpath.plainText" -}}
{{- $proven := or .Values.auth.enabled (eq .Values.tls.clientAuth "require") -}}
{{- if or (not .Values.tls.enabled) (eq .Values.tls.plainText "accept") (and (eq .Values.tls.plainText "") (not $proven)) -}}yes{{- end -}}
{{- end -}}

{{/* Of the management API: empty when it speaks plain text. */}}
{{- define "warmpath.managementTlsSecret" -}}
{{- if .Values.managementTls.enabled -}}{{ .Values.managementTls.secretName | default (printf "%s-tls" (include "warmpath.management" .)) }}{{- end -}}
{{- end -}}

{{/* How callers prove who they are: empty when nobody has to. */}}
{{- define "warmpath.authConfigMap" -}}
{{- if .Values.auth.enabled -}}{{ .Values.auth.configMapName | default (printf "%s-auth" (include "warmpath.name" .)) }}{{- end -}}
{{- end -}}

{{- define "warmpath.authFile" -}}
{{- if and .Values.auth.clientCertificates (ne .Values.tls.clientAuth "require") }}{{ fail "auth.clientCertificates needs tls.clientAuth: require" }}{{ end -}}
jwt: {{ toJson .Values.auth.jwt }}
apiKeys: {{ .Values.auth.apiKeys }}
{{- with .Values.auth.clientCertificates }}
clientCertificates: {{ . }}
{{- end }}
{{- end -}}

{{/* Tokens of the management API: empty when it asks for none. */}}
{{- define "warmpath.tokensSecret" -}}
{{- if .Values.managementTokens.enabled -}}{{ .Values.managementTokens.secretName | default (printf "%s-tokens" (include "warmpath.management" .)) }}{{- end -}}
{{- end -}}

{{- define "warmpath.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "warmpath.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Where spans go: of Envoy's configuration, and of gateways. */}}
{{- define "warmpath.tracingFlags" -}}
{{- with .Values.tracing.endpoint -}}
- --otlp-endpoint={{ . }}
- --trace-share={{ $.Values.tracing.share }}
{{- with $.Values.tracing.protocol }}
- --otlp-protocol={{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether gateways are scraped by the Service that clients call: not where it is reached from outside. */}}
{{- define "warmpath.scrapedByService" -}}
{{- if and .Values.metrics.service.enabled (eq .Values.service.type "ClusterIP") }}yes{{ end }}
{{- end }}

{{/* For a Prometheus that finds pods by these, as it found those of ModelMesh. */}}
{{- define "warmpath.scrapeAnnotations" -}}
{{- if include "warmpath.scrapedByService" . -}}
prometheus.io/scrape: "true"
prometheus.io/scheme: {{ ternary "https" "http" (ne (include "warmpath.managementTlsSecret" .) "") }}
prometheus.io/port: "2112"
prometheus.io/path: /metrics
{{- end -}}
{{- end -}}

{{/* Adapters trace what gateways trace: they take no share. */}}
{{- define "warmpath.adapterArgs" -}}
{{- $args := list }}
{{- if .Values.metrics.modelmeshNames }}{{ $args = append $args "--modelmesh-metrics" }}{{ end }}
{{- with .Values.tracing.endpoint }}{{ $args = append $args (printf "--otlp-endpoint=%s" .) }}{{ end }}
{{- if and .Values.tracing.endpoint .Values.tracing.protocol }}{{ $args = append $args (printf "--otlp-protocol=%s" .Values.tracing.protocol) }}{{ end }}
{{- with concat $args .Values.adapter.extraArgs }}{{ toJson . }}{{ end }}
{{- end }}
