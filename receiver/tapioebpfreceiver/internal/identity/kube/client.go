// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// How the agent shows the API server who it is.
const (
	AuthServiceAccount = "serviceAccount" // the token that Kubernetes mounts into the agent's pod
	AuthKubeConfig     = "kubeConfig"     // a file as kubectl has it
)

// clients are those of the groups that are watched. They share their connections.
type clients struct {
	core        *rest.RESTClient
	discovery   *rest.RESTClient
	connections *http.Client
}

// newClients does not connect.
func newClients(options *Options) (*clients, error) {
	config, err := clientConfig(options)
	if err != nil {
		return nil, err
	}
	c := &clients{}
	if c.connections, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("use the credentials for %s: %w", config.Host, err)
	}
	if c.core, err = c.of(config, "/api", corev1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	c.discovery, err = c.of(config, "/apis", discoveryv1.SchemeGroupVersion)
	return c, err
}

func (c *clients) of(config *rest.Config, path string, group schema.GroupVersion) (*rest.RESTClient, error) {
	of := rest.CopyConfig(config)
	of.APIPath, of.GroupVersion = path, &group
	client, err := rest.RESTClientForConfigAndClient(of, c.connections)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", config.Host, err)
	}
	return client, nil
}

func clientConfig(options *Options) (*rest.Config, error) {
	config, err := restConfig(options)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	config.UserAgent = options.UserAgent
	config.WarningHandler = rest.NoWarnings{}
	// A list, in pages, and a watch of each resource are all that is asked for. Whatever goes wrong, it is not
	// more often.
	config.QPS, config.Burst = 5, 10
	return config, nil
}

func restConfig(options *Options) (*rest.Config, error) {
	if options.AuthType == AuthKubeConfig {
		return kubeConfig(options.Kubeconfig)
	}
	config, err := rest.InClusterConfig()
	switch {
	case errors.Is(err, rest.ErrNotInCluster):
		return nil, fmt.Errorf("auth_type %s: %w: run it in a pod, or set auth_type: %s and kubeconfig",
			AuthServiceAccount, err, AuthKubeConfig)
	case err != nil:
		return nil, fmt.Errorf("auth_type %s: read the pod's token: %w: its service account must be mounted (automountServiceAccountToken)",
			AuthServiceAccount, err)
	}
	return config, nil
}

// kubeConfig reads the file, or what kubectl would read if there is none given.
func kubeConfig(file string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = file
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("auth_type %s: read kubeconfig %q: %w: name a file that kubectl can use",
			AuthKubeConfig, file, err)
	}
	return config, nil
}
