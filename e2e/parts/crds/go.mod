// Pins the modules that carry the CRDs of Gateway API, Istio, the Prometheus operator, Argo CD and Flux. Nothing is
// built from them.
module kthena-bridge.io/e2e/parts/crds

go 1.26.0

require (
	github.com/argoproj/argo-cd/v3 v3.5.7
	github.com/fluxcd/helm-controller v1.6.1
	github.com/fluxcd/kustomize-controller v1.9.6
	github.com/fluxcd/source-controller v1.9.6
	github.com/prometheus-operator/prometheus-operator v0.85.0
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.4.1
)
