// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParse(t *testing.T) {
	for key, want := range map[string]Object{
		"/registry/pods/default/web-0":                                      {Resource: "pods", Namespace: "default", Name: "web-0"},
		"/registry/secrets/kube-system/bootstrap-token-abcdef":              {Resource: "secrets", Namespace: "kube-system", Name: "bootstrap-token-abcdef"},
		"/registry/namespaces/default":                                      {Resource: "namespaces", Name: "default"},
		"/registry/minions/node-1":                                          {Resource: "nodes", Name: "node-1"},
		"/registry/controllers/default/old":                                 {Resource: "replicationcontrollers", Namespace: "default", Name: "old"},
		"/registry/ingress/default/web":                                     {Resource: "ingresses", Namespace: "default", Name: "web"},
		"/registry/services/specs/default/kubernetes":                       {Resource: "services", Namespace: "default", Name: "kubernetes"},
		"/registry/services/endpoints/default/kubernetes":                   {Resource: "endpoints", Namespace: "default", Name: "kubernetes"},
		"/registry/ranges/serviceips":                                       {Resource: "ranges", Name: "serviceips"},
		"/registry/clusterroles/system:node":                                {Resource: "clusterroles", Name: "system:node"},
		"/registry/apiextensions.k8s.io/customresourcedefinitions/a.b.com":  {Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: "a.b.com"},
		"/registry/apiregistration.k8s.io/apiservices/v1.":                  {Group: "apiregistration.k8s.io", Resource: "apiservices", Name: "v1."},
		"/registry/cilium.io/ciliumendpoints/default/web-0":                 {Group: "cilium.io", Resource: "ciliumendpoints", Namespace: "default", Name: "web-0"},
		"/registry/example.com/widgets/wîdget":                              {Group: "example.com", Resource: "widgets", Name: "wîdget"},
		"/registry/leases/kube-node-lease/node-1":                           {Resource: "leases", Namespace: "kube-node-lease", Name: "node-1"},
		"/registry/masterleases/10.0.0.1":                                   {Resource: "masterleases", Name: "10.0.0.1"},
		"/registry/validatingwebhookconfigurations/cert-manager-webhook.io": {Resource: "validatingwebhookconfigurations", Name: "cert-manager-webhook.io"},
	} {
		got, ok := Parse([]byte(key))
		assert.True(t, ok, key)
		assert.Equal(t, want, got, key)
	}
}

func TestParseWhatIsNoObject(t *testing.T) {
	for _, key := range []string{
		"", "/", "/registry", "/registry/", "/registry//", "/registry/pods", "/registry/pods/", "/registry/pods//web", "/registry/pods/default/",
		"/registry/pods/a/b/c", "/registry/example.com", "/registry/example.com/widgets", "/registry/services/specs",
		"/other/pods/default/web", "compact_rev_key", "/registry/pods/default/\xff\xfe",
	} {
		got, ok := Parse([]byte(key))
		assert.False(t, ok, key)
		assert.Zero(t, got, key)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("/registry/pods/default/web"))
	f.Add([]byte("/registry/example.com/widgets/a"))
	f.Add([]byte("/registry/services/specs/a/b"))
	f.Fuzz(func(t *testing.T, key []byte) {
		object, ok := Parse(key)
		assert.Equal(t, ok, object.Name != "" && object.Resource != "")
		if !ok {
			assert.Zero(t, object)
		}
	})
}
