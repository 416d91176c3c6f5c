{{/* What every object of the chart carries beside what kustomize gives it. Pods do not: a new chart alone restarts none. */}}
{{- define "waggle.labels" -}}
app.kubernetes.io/name: waggle
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What selects the pods of a component: (dict "component" "agent"). */}}
{{- define "waggle.selector" -}}
app.kubernetes.io/name: waggle
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The full name of an image: (list $ "agent"). */}}
{{- define "waggle.image" -}}
{{- $root := index . 0 }}
{{- $image := index $root.Values.images (index . 1) }}
{{- if $image.digest }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{/* Annotations of a pod: (list $ "https" 10250 annotations). */}}
{{- define "waggle.podAnnotations" -}}
{{- $root := index . 0 }}
{{- $scrape := dict }}
{{- if $root.Values.prometheus.annotations }}
{{- $scrape = dict "prometheus.io/scrape" "true" "prometheus.io/scheme" (index . 1) "prometheus.io/port" (index . 2 | toString) }}
{{- end }}
{{- with merge (deepCopy (index . 3)) $scrape }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "waggle.environment" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- with .Values.log.filter }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Names in the serving certificate. */}}
{{- define "waggle.dnsNames" -}}
{{- range list "waggle-aggregator" "waggle-ingest" }}
- {{ . }}.{{ $.Release.Namespace }}.svc
- {{ . }}.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}
{{- end }}
{{- end }}

{{/* The volume with the CA that agents trust. */}}
{{- define "waggle.agentTrust" -}}
{{- if eq .Values.certificates.source "cert-manager" -}}
secret:
  secretName: waggle-agent-trust
{{- else -}}
configMap:
  name: waggle-ca
{{- end }}
  items:
    - key: ca.crt
      path: ca.crt
{{- end }}

{{/* A binding of the aggregator's account: (list $ (dict "kind" … "name" … "namespace" … "roleKind" … "role" …)). */}}
{{- define "waggle.binding" -}}
{{- $root := index . 0 }}
{{- with index . 1 -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "waggle.labels" $root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .roleKind }}
  name: {{ .role }}
subjects:
  - kind: ServiceAccount
    name: waggle-aggregator
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end }}

{{/* How the agent reads its node, for the DaemonSet and for helm test. */}}
{{- define "waggle.nodeArguments" -}}
- --cgroup-root=/host/sys/fs/cgroup
{{- if ne .Values.agent.collector "auto" }}
- --collector={{ .Values.agent.collector }}
{{- end }}
{{- if ne .Values.log.format "text" }}
- --log-format={{ .Values.log.format }}
{{- end }}
{{- end }}

{{- define "waggle.agentSecurity" -}}
# Kubernetes gives added capabilities to root alone. The agent drops both once its program is loaded.
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add: [BPF, PERFMON]
{{- with .Values.agent.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Seconds that a pod needs to end for a drain such as 10s or 1m. */}}
{{- define "waggle.gracePeriod" -}}
{{- $drain := . | default "10s" }}
{{- $seconds := 0 }}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" $drain -1 }}
{{- $number := regexFind "^[0-9]+" . | int }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- if eq $unit "ms" }}{{- $seconds = add $seconds 1 }}
{{- else }}{{- $seconds = add $seconds (mul $number (get (dict "s" 1 "m" 60 "h" 3600) $unit)) }}
{{- end }}
{{- end }}
{{- add 25 (mul 2 $seconds) }}
{{- end }}
