{{/* Envoy's TLS to a service by its name in the cluster. */}}
{{- define "multilora.upstreamTls" -}}
name: envoy.transport_sockets.tls
typed_config:
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
  sni: {{ . }}
  common_tls_context:
    alpn_protocols: [h2]
    validation_context:
      trusted_ca: {filename: /tls/ca.crt}
      match_typed_subject_alt_names:
        - {san_type: DNS, matcher: {exact: {{ . }}}}
{{- end }}

{{/* Envoy's TLS to clients; the certificate is followed when it is renewed. */}}
{{- define "multilora.downstreamTls" -}}
name: envoy.transport_sockets.tls
typed_config:
  "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
  common_tls_context:
    alpn_protocols: [h2]
    tls_certificate_sds_secret_configs:
      - name: server
        sds_config: {path_config_source: {path: /etc/envoy/certificate.yaml}, resource_api_version: V3}
{{- end }}

{{- define "multilora.certificate" -}}
resources:
  - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
    name: server
    tls_certificate:
      certificate_chain: {filename: /tls/tls.crt}
      private_key: {filename: /tls/tls.key}
      watched_directory: {path: /tls}
{{- end }}
