{{/*
What the operator uses of the namespaces that it watches, and nothing else. A test compares it with the API server's
audit log. The arguments are the values, and the kind of role that the endpoint pickers have, as a resource.
*/}}
{{- define "kthena-bridge.rules" -}}
{{- $picker := (.values.config | default dict).endpointPicker | default dict }}
# What is exposed. Of it, only our conditions are written.
- apiGroups: [workload.serving.volcano.sh]
  resources: [modelboosters, modelservings]
  verbs: [list, watch]
- apiGroups: [workload.serving.volcano.sh]
  resources: [modelboosters/status]
  verbs: [patch]
- apiGroups: [networking.serving.volcano.sh]
  resources: [modelservers, modelroutes]
  verbs: [list, watch]
# What exposes it, where that is no annotation.
- apiGroups: [kthena-bridge.io]
  resources: [modelexposures]
  verbs: [list, watch]
- apiGroups: [kthena-bridge.io]
  resources: [modelexposures/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Only where the endpoint picker of a Model is somebody else's.
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways]
  verbs: [list, watch]
# What is written.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [inference.networking.k8s.io]
  resources: [inferencepools]
  verbs: [get, list, watch, create, patch, delete]
# Those of the endpoint picker's flavour: gie's, and llm-d's.
- apiGroups: [inference.networking.x-k8s.io, llm-d.ai]
  resources: [inferenceobjectives, inferencemodelrewrites]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.gke.io]
  resources: [healthcheckpolicies, gcpbackendpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.istio.io]
  resources: [destinationrules]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [serviceaccounts, configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# A RoleBinding may only grant what its writer has, or may bind: this one role.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [{{ .roles }}]
  resourceNames: [{{ $picker.clusterRole | default "kthena-bridge-endpoint-picker" | toJson }}]
  verbs: [bind]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What an endpoint picker reads, in the namespace of its Model. */}}
{{- define "kthena-bridge.endpointPickerRules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [inference.networking.k8s.io]
  resources: [inferencepools]
  verbs: [get, list, watch]
- apiGroups: [inference.networking.x-k8s.io, llm-d.ai]
  resources: [inferenceobjectives, inferencemodelrewrites]
  verbs: [get, list, watch]
# Several replicas agree on which of them leads.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
