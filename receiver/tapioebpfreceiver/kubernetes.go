// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
)

// nodeNameVariable has the node's name in a pod whose manifest takes it from spec.nodeName.
const nodeNameVariable = "K8S_NODE_NAME"

// maxKubernetesKeys is the most labels, and annotations: each becomes an attribute of every resource.
const maxKubernetesKeys = 64

// KubernetesConfig says how names of pods and Services come from the API server.
type KubernetesConfig struct {
	// AuthType is "serviceAccount" or "kubeConfig".
	AuthType string `mapstructure:"auth_type"`
	// Kubeconfig is the file for auth_type kubeConfig; empty: the one that kubectl would read.
	Kubeconfig string `mapstructure:"kubeconfig"`
	// NodeName is this node's, as the API server has it.
	NodeName string `mapstructure:"node_name"`
	// Services says whether the addresses of the cluster's Services get names.
	Services bool `mapstructure:"services"`
	// EndpointSlices says whether the addresses behind headless Services get names, too.
	EndpointSlices bool `mapstructure:"endpoint_slices"`
	// ServiceNameLabels are the labels that name a pod's service, the first that it has.
	ServiceNameLabels []string `mapstructure:"service_name_labels"`
	// Labels and Annotations of pods to show.
	Labels      []string `mapstructure:"labels"`
	Annotations []string `mapstructure:"annotations"`

	_ struct{}
}

func (c *Config) validateKubernetes() error {
	if kubernetes := c.Kubernetes.Get(); kubernetes != nil {
		return kubernetes.validate()
	}
	return nil
}

func (c *KubernetesConfig) validate() error {
	return errors.Join(
		c.validateAuth(),
		c.validateNodeName(),
		validateKubernetesKeys("kubernetes::service_name_labels", c.ServiceNameLabels),
		validateKubernetesKeys("kubernetes::labels", c.Labels),
		validateKubernetesKeys("kubernetes::annotations", c.Annotations),
	)
}

func (c *KubernetesConfig) validateAuth() error {
	switch {
	case c.AuthType != kube.AuthServiceAccount && c.AuthType != kube.AuthKubeConfig:
		return fmt.Errorf("kubernetes::auth_type: %q is not known, it must be %q or %q",
			c.AuthType, kube.AuthServiceAccount, kube.AuthKubeConfig)
	case c.AuthType == kube.AuthServiceAccount && c.Kubeconfig != "":
		return fmt.Errorf("kubernetes::kubeconfig: auth_type %s does not read it, auth_type %s does",
			kube.AuthServiceAccount, kube.AuthKubeConfig)
	default:
		return nil
	}
}

func (c *KubernetesConfig) validateNodeName() error {
	if c.NodeName == "" {
		return fmt.Errorf("kubernetes::node_name: must be this node's name in Kubernetes: "+
			"set it, or the environment variable %s from the field spec.nodeName in the pod's manifest", nodeNameVariable)
	}
	if wrong := validation.IsDNS1123Subdomain(c.NodeName); len(wrong) > 0 {
		return fmt.Errorf("kubernetes::node_name: %q cannot be a node's name: %s", c.NodeName, strings.Join(wrong, ", "))
	}
	return nil
}

func validateKubernetesKeys(path string, keys []string) error {
	if n := len(keys); n > maxKubernetesKeys {
		return fmt.Errorf("%s: %d are too many, the most are %d", path, n, maxKubernetesKeys)
	}
	for _, key := range keys {
		if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
			return fmt.Errorf("%s: %q cannot be a key: %s", path, key, strings.Join(wrong, ", "))
		}
	}
	return nil
}

// KubernetesStats are what is known from the API server, as /stats shows it.
type KubernetesStats struct {
	// Synced says that everything was read once.
	Synced bool `json:"synced"`
	// Pods of this node, with those that are gone since less than a minute.
	Pods int `json:"pods"`
	// ServiceAddresses that have a name.
	ServiceAddresses int `json:"service_addresses"`
	// Error says why the API server is not being watched just now; what was known stays.
	Error string `json:"error,omitempty"`
}

// watched says how the API server is watched; nil: it is not.
func (c *Config) watched() *KubernetesConfig {
	if c.Source != kernel.Name {
		return nil
	}
	return c.Kubernetes.Get()
}

// nodeName is this node's in Kubernetes; empty where that is not asked.
func (c *Config) nodeName() string {
	if kubernetes := c.watched(); kubernetes != nil {
		return kubernetes.NodeName
	}
	return ""
}

// startKubernetes begins to watch the API server, if it is to be. It does not wait for an answer: a
// node's events must not be lost because its API server is away. What does not come from this kernel
// has nothing to do with the pods that are here now.
func (r *tapioReceiver) startKubernetes() error {
	cfg := r.config.watched()
	if cfg == nil {
		return nil
	}
	watcher, err := kube.New(kube.Options{
		AuthType:          cfg.AuthType,
		Kubeconfig:        cfg.Kubeconfig,
		NodeName:          cfg.NodeName,
		Services:          cfg.Services,
		EndpointSlices:    cfg.EndpointSlices,
		ServiceNameLabels: cfg.ServiceNameLabels,
		Labels:            cfg.Labels,
		Annotations:       cfg.Annotations,
		UserAgent:         r.set.BuildInfo.Command + "/" + r.set.BuildInfo.Version,
		OnStatus:          func(err error) { r.status.trouble("kubernetes", err) },
		OnSynced:          r.trim,
	}, r.set.Logger)
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	r.kube = watcher
	r.kube.Start()
	return nil
}

func (r *tapioReceiver) stopKubernetes() {
	if r.kube != nil {
		r.kube.Shutdown()
	}
}

func (r *tapioReceiver) kubernetesStats() *KubernetesStats {
	if r.kube == nil {
		return nil
	}
	status := r.kube.Status()
	stats := &KubernetesStats{Synced: status.Synced, Pods: status.Pods, ServiceAddresses: status.ServiceAddresses}
	if status.Err != nil {
		stats.Error = status.Err.Error()
	}
	return stats
}
