{{/* The spec of a Ray cluster. root, groups (names to groups), image (of the head; without it what its workers have: the
driver runs there, and looks at packages of theirs), autoscaling, serves. */}}
{{- define "ziggurat.rayCluster" -}}
{{- $root := .root -}}
{{- $image := default $root.Values.images.cpu .image -}}
{{- range .groups -}}
{{- if and (not $.image) (int .gpus) -}}
{{- $image = $root.Values.images.gpu -}}
{{- end -}}
{{- end -}}
rayVersion: {{ $root.Values.ray.version | quote }}
authOptions: {mode: token, secretName: {{ $root.Values.ray.tokenSecret }}}
enableInTreeAutoscaling: {{ .autoscaling }}
{{- if .autoscaling }}
autoscalerOptions:
  idleTimeoutSeconds: 300
  resources:
    requests: {cpu: 500m, memory: 512Mi}
    limits: {cpu: 500m, memory: 512Mi}
  securityContext: {{- include "ziggurat.security" $root | nindent 4 }}
{{- end }}
headGroupSpec:
  serviceType: ClusterIP
  enableIngress: false
  rayStartParams: {num-cpus: "0", disable-usage-stats: "true"}
  template:
    metadata:
      labels: {{- include "ziggurat.selector" $root | nindent 8 }}
        ziggurat/part: ray
    spec:
      {{- if .autoscaling }}
      {{- /* KubeRay makes an account that may ask for workers. */}}
      enableServiceLinks: false
      securityContext: {{- include "ziggurat.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.images.pullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumes: {{- include "ziggurat.volumes" (dict "root" $root "scratch" $root.Values.head.scratch) | nindent 8 }}
      {{- else }}
      {{- include "ziggurat.pod" (dict "root" $root "scratch" $root.Values.head.scratch) | nindent 6 }}
      {{- end }}
      containers:
        - name: ray-head
          image: {{ $image }}
          imagePullPolicy: {{ $root.Values.images.pullPolicy }}
          env: {{- include "ziggurat.rayToken" $root | nindent 12 }}
          {{- with include "ziggurat.storage" $root }}
          {{- . | nindent 10 }}
          {{- end }}
          ports:
            - {name: gcs-server, containerPort: 6379}
            - {name: dashboard, containerPort: 8265}
            {{- if .serves }}
            - {name: serve, containerPort: 8000}
            {{- end }}
          resources: {{- include "ziggurat.resources" $root.Values.head | nindent 12 }}
          securityContext: {{- include "ziggurat.security" $root | nindent 12 }}
          volumeMounts: {{- include "ziggurat.mounts" $root | nindent 12 }}
workerGroupSpecs:
  {{- range $name, $group := .groups }}
  - groupName: {{ $name }}
    replicas: {{ $group.replicas }}
    minReplicas: {{ $group.replicas }}
    maxReplicas: {{ max (int $group.replicas) (int $group.most) }}
    rayStartParams: {disable-usage-stats: "true"}
    template:
      metadata:
        labels: {{- include "ziggurat.selector" $root | nindent 10 }}
          ziggurat/part: ray
      spec:
        {{- include "ziggurat.pod" (dict "root" $root "scratch" $group.scratch) | nindent 8 }}
        {{- $gpus := int $group.gpus }}
        {{- $selector := dict }}
        {{- $tolerations := list }}
        {{- if $gpus }}
        {{- $selector = merge $selector $root.Values.gpu.nodeSelector }}
        {{- $tolerations = concat $tolerations $root.Values.gpu.tolerations }}
        {{- end }}
        {{- if $group.spot }}
        {{- $selector = merge $selector $root.Values.spot.nodeSelector }}
        {{- $tolerations = concat $tolerations $root.Values.spot.tolerations }}
        {{- end }}
        {{- with merge (dict) (default (dict) $group.nodeSelector) $selector }}
        nodeSelector: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $tolerations }}
        tolerations: {{- toYaml . | nindent 10 }}
        {{- end }}
        containers:
          - name: ray-worker
            image: {{ default (ternary $root.Values.images.gpu $root.Values.images.cpu (gt $gpus 0)) $group.image }}
            imagePullPolicy: {{ $root.Values.images.pullPolicy }}
            env: {{- include "ziggurat.rayToken" $root | nindent 14 }}
            {{- with include "ziggurat.storage" $root }}
            {{- . | nindent 12 }}
            {{- end }}
            resources: {{- include "ziggurat.resources" $group | nindent 14 }}
            securityContext: {{- include "ziggurat.security" $root | nindent 14 }}
            volumeMounts: {{- include "ziggurat.mounts" $root | nindent 14 }}
  {{- end }}
{{- end }}
