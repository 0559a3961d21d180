{{/* The agent's configuration file: .Values.config, and what .Values.feature says of the API server and of policies. */}}
{{- define "balancing.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- with .Values.feature.apiServerHost -}}
{{- if $config.apiServer -}}
{{- fail "feature.apiServerHost and config.apiServer say the same thing: give one of them" -}}
{{- end -}}
{{- $host := contains ":" . | ternary (printf "[%s]" .) . -}}
{{- $_ := set $config "apiServer" (list (printf "https://%s:%d" $host (int $.Values.feature.apiServerPort))) -}}
{{- end -}}
{{- with .Values.feature.redirectQosLimit -}}
{{- if hasKey $config "redirectQosLimit" -}}
{{- fail "feature.redirectQosLimit and config.redirectQosLimit say the same thing: give one of them" -}}
{{- end -}}
{{- $_ := set $config "redirectQosLimit" (int64 .) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
