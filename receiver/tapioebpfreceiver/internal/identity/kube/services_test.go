// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

func serviceObject(t *testing.T, name string, spec corev1.ServiceSpec, ingress ...string) *observedService {
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Spec: spec}
	for _, ip := range ingress {
		service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	got, err := transformService(service)
	require.NoError(t, err)
	again, err := transformService(got)
	require.NoError(t, err)
	require.Same(t, got, again, "the informer may ask twice")
	return got.(*observedService)
}

func TestServiceAddresses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spec    corev1.ServiceSpec
		ingress []string
		want    []string
	}{
		{"cluster", corev1.ServiceSpec{ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1", "fd00::1"}}, nil, []string{"10.96.0.1", "fd00::1"}},
		{"of an old server", corev1.ServiceSpec{ClusterIP: "10.96.0.1"}, nil, []string{"10.96.0.1"}},
		{"headless", corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}}, nil, nil},
		{"a name elsewhere", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com"}, nil, nil},
		{"external", corev1.ServiceSpec{ClusterIP: "10.96.0.1", ExternalIPs: []string{"203.0.113.7"}}, []string{"203.0.113.8", ""}, []string{"10.96.0.1", "203.0.113.7", "203.0.113.8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := serviceObject(t, "s", tt.spec, tt.ingress...)
			assert.Equal(t, addresses(tt.want...), append(got.addresses, got.external...))
		})
	}
}

func TestServiceComesAndGoes(t *testing.T) {
	w := newWorld()
	first := serviceObject(t, "web", corev1.ServiceSpec{ClusterIP: "10.96.0.1"})
	w.services.OnAdd(first, true)
	assert.Equal(t, "2 shop/web", w.at("10.96.0.1"))
	version := w.Version()
	w.services.OnUpdate(first, serviceObject(t, "web", corev1.ServiceSpec{ClusterIP: "10.96.0.1"}))
	assert.Equal(t, version, w.Version(), "nothing has changed")
	moved := serviceObject(t, "web", corev1.ServiceSpec{ClusterIP: "10.96.0.2"})
	w.services.OnUpdate(first, moved)
	assert.Equal(t, nobody, w.at("10.96.0.1"))
	assert.Equal(t, "2 shop/web", w.at("10.96.0.2"))
	w.services.OnDelete(cache.DeletedFinalStateUnknown{Obj: moved})
	assert.Equal(t, nobody, w.at("10.96.0.2"))
	assert.Zero(t, w.Status().ServiceAddresses)
}

// TestPortsOfExternalAddresses: with some load balancers each node has the address of all of their Services.
func TestPortsOfExternalAddresses(t *testing.T) {
	w := newWorld()
	spec := corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 80}, {Port: 443}}}
	service := serviceObject(t, "traefik", spec, "192.168.0.10")
	w.services.OnAdd(service, true)
	has := func(address string, port uint16) bool {
		peer := w.Peer(netip.MustParseAddr(address))
		require.Equal(t, "traefik", peer.Name)
		return peer.HasPort(port)
	}
	for port, want := range map[uint16]bool{80: true, 443: true, 8: false, 44: false, 6443: false, 40000: false} {
		assert.Equal(t, want, has("192.168.0.10", port), port)
		assert.True(t, has("10.96.0.1", port), port)
	}
	spec.Ports = spec.Ports[:1]
	w.services.OnUpdate(service, serviceObject(t, "traefik", spec, "192.168.0.10"))
	assert.False(t, has("192.168.0.10", 443), "it has no such port any more")
	assert.True(t, has("192.168.0.10", 80))
}

// TestExternalAddressThatIsItsOwn: it is one Service's all the same, on all ports.
func TestExternalAddressThatIsItsOwn(t *testing.T) {
	w := newWorld()
	spec := corev1.ServiceSpec{ClusterIP: "10.96.0.1", ExternalIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Port: 80}}}
	service := serviceObject(t, "web", spec)
	w.services.OnAdd(service, true)
	assert.Equal(t, "2 shop/web", w.at("10.96.0.1"))
	w.services.OnDelete(service)
	assert.Equal(t, nobody, w.at("10.96.0.1"))
}

func TestAddressOfSeveralServices(t *testing.T) {
	w := newWorld()
	spec := corev1.ServiceSpec{ExternalIPs: []string{"203.0.113.7"}}
	a, b := serviceObject(t, "a", spec), serviceObject(t, "b", spec)
	w.services.OnAdd(a, true)
	w.services.OnAdd(b, true)
	assert.Equal(t, nobody, w.at("203.0.113.7"), "either may be meant")
	w.services.OnDelete(a)
	assert.Equal(t, "2 shop/b", w.at("203.0.113.7"))
}

// Some load balancers are the nodes themselves.
func TestPodAndNodeBeforeService(t *testing.T) {
	w := newWorld()
	w.services.OnAdd(serviceObject(t, "web", corev1.ServiceSpec{ExternalIPs: []string{"192.168.0.9", "10.0.0.1"}}), true)
	w.pods.OnAdd(podOf("1", "10.0.0.1", func(pod *corev1.Pod) { pod.Status.HostIP = "192.168.0.9" }), true)
	assert.Equal(t, "3 /node-1", w.at("192.168.0.9"))
	assert.Equal(t, "1 ns/pod-1", w.at("10.0.0.1"))
}
