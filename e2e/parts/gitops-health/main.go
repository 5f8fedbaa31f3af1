// Judges objects as Argo CD and Flux do: with the Lua interpreter of the one, and with the code of the other.
//
// Reads one JSON document from standard input:
//
//	{"lua": "...", "healthCheckExprs": [{"apiVersion": "...", "kind": "...", "current": "..."}], "objects": [{...}]}
//
// and writes a verdict for each object: {"argoCD": {"status", "message", "error"}, "flux": {"status", "error"}}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

type question struct {
	Lua              string                        `json:"lua"`
	HealthCheckExprs []kustomize.CustomHealthCheck `json:"healthCheckExprs"`
	Objects          []json.RawMessage             `json:"objects"`
}

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Error   string `json:"error"`
}

type answer struct {
	ArgoCD verdict `json:"argoCD"`
	Flux   verdict `json:"flux"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		return fmt.Errorf("reading the question: %w", err)
	}
	reader, err := cel.NewStatusReader(q.HealthCheckExprs)
	if err != nil {
		return fmt.Errorf("healthCheckExprs: %w", err)
	}
	answers := make([]answer, 0, len(q.Objects))
	for _, raw := range q.Objects {
		var a answer
		// As Flux reads it: whole numbers are int64.
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
		if a.ArgoCD, err = argoCD(q.Lua, object.Object); err != nil {
			a.ArgoCD = verdict{Error: err.Error()}
		}
		status, err := reader(nil).ReadStatusForObject(context.Background(), nil, object)
		if err != nil {
			a.Flux.Error = err.Error()
		} else {
			a.Flux = verdict{Status: status.Status.String(), Message: status.Message}
			if status.Error != nil {
				a.Flux.Error = status.Error.Error()
			}
		}
		answers = append(answers, a)
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

// The libraries and the limit are those that Argo CD gives to a script of argocd-cm, but for its os, of which
// it leaves time and date.
// https://github.com/argoproj/argo-cd/blob/v3.5.7/util/lua/lua.go
func argoCD(script string, object map[string]any) (verdict, error) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return verdict{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	l.SetContext(ctx)
	// Through JSON, since the decoder knows no int64.
	text, err := json.Marshal(object)
	if err != nil {
		return verdict{}, err
	}
	value, err := luajson.Decode(l, text)
	if err != nil {
		return verdict{}, err
	}
	l.SetGlobal("obj", value)
	if err := l.DoString(script); err != nil {
		return verdict{}, err
	}
	result := l.Get(-1)
	if result.Type() != lua.LTTable {
		return verdict{}, fmt.Errorf("the script gives a %s, and has to give a table", result.Type())
	}
	encoded, err := luajson.Encode(result)
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	return v, json.Unmarshal(encoded, &v)
}
