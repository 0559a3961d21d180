{{/* The agent's configuration file: .Values.config, and what .Values.feature says of the API server. */}}
{{- define "balancing.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- with .Values.feature.apiServerHost -}}
{{- if $config.apiServer -}}
{{- fail "feature.apiServerHost and config.apiServer say the same thing: give one of them" -}}
{{- end -}}
{{- $host := contains ":" . | ternary (printf "[%s]" .) . -}}
{{- $_ := set $config "apiServer" (list (printf "https://%s:%d" $host (int $.Values.feature.apiServerPort))) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
