{{/* Parts of pods. Each pod conforms to Kubernetes' profile "restricted". */}}

{{- define "ziggurat.labels" -}}
app.kubernetes.io/name: ziggurat
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels of our own: KubeRay gives its pods `app.kubernetes.io/name`, and selects them by it. */}}
{{- define "ziggurat.selector" -}}
ziggurat/release: {{ .Release.Name }}
{{- end }}

{{- define "ziggurat.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ziggurat.security" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ziggurat.rayToken" -}}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.ray.tokenSecret }}, key: auth_token}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- end }}

{{- define "ziggurat.storage" -}}
{{- with .Values.storage.secret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "ziggurat.mounts" -}}
- {name: scratch, mountPath: /tmp}
- {name: home, mountPath: /home/ziggurat}
{{- if .Values.storage.claim }}
- {name: data, mountPath: /data}
{{- end }}
{{- end }}

{{/* root, scratch (a quantity) */}}
{{- define "ziggurat.volumes" -}}
- name: scratch
  emptyDir: {sizeLimit: {{ .scratch }}}
- name: home
  emptyDir: {sizeLimit: {{ .scratch }}}
{{- with .root.Values.storage.claim }}
- name: data
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- end }}

{{/* cpus, memory, scratch, gpus. Limits are the requests: Ray takes them for what a node has. */}}
{{- define "ziggurat.resources" -}}
{{- $gpus := int (default 0 .gpus) -}}
requests:
  cpu: {{ .cpus | quote }}
  memory: {{ .memory }}
  ephemeral-storage: {{ .scratch }}
limits:
  cpu: {{ .cpus | quote }}
  memory: {{ .memory }}
  ephemeral-storage: {{ .scratch }}
  {{- if $gpus }}
  nvidia.com/gpu: {{ $gpus | quote }}
  {{- end }}
{{- end }}

{{/* root, scratch: what all pods begin with */}}
{{- define "ziggurat.pod" -}}
automountServiceAccountToken: false
serviceAccountName: {{ .root.Release.Name }}
enableServiceLinks: false
securityContext: {{- include "ziggurat.podSecurity" .root | nindent 2 }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
volumes: {{- include "ziggurat.volumes" . | nindent 2 }}
{{- end }}
