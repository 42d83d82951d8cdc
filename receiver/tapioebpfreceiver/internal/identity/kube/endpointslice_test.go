// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func sliceOf(t *testing.T, name, service string, endpoints ...string) *observedService {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: service},
	}}
	for _, address := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	got, err := transformEndpointSlice(slice)
	require.NoError(t, err)
	again, err := transformEndpointSlice(got)
	require.NoError(t, err)
	require.Same(t, got, again, "the informer may ask twice")
	return got.(*observedService)
}

func TestEndpointsHaveTheNameOfTheirService(t *testing.T) {
	w := newWorld()
	slice := sliceOf(t, "db-abc12", "db", "10.1.0.1", "10.1.0.2", "db.example.com")
	w.endpoints.OnAdd(slice, true)
	assert.Equal(t, "2 shop/db", w.at("10.1.0.1"))
	assert.Equal(t, 2, w.Status().ServiceAddresses)
	smaller := sliceOf(t, "db-abc12", "db", "10.1.0.2")
	w.endpoints.OnUpdate(slice, smaller)
	assert.Equal(t, nobody, w.at("10.1.0.1"))
	assert.Equal(t, "2 shop/db", w.at("10.1.0.2"))
	w.pods.OnAdd(podOf("1", "10.1.0.2"), true)
	assert.Equal(t, "1 ns/pod-1", w.at("10.1.0.2"), "which pod of this node it is says more")
	w.endpoints.OnDelete(smaller)
	assert.Zero(t, w.Status().ServiceAddresses)
}

// An endpoint that moves from one slice to another is in both for a moment.
func TestAddressInTwoSlicesOfAService(t *testing.T) {
	w := newWorld()
	first, second := sliceOf(t, "db-1", "db", "10.1.0.1"), sliceOf(t, "db-2", "db", "10.1.0.1")
	w.endpoints.OnAdd(first, true)
	w.endpoints.OnAdd(second, true)
	assert.Equal(t, "2 shop/db", w.at("10.1.0.1"))
	w.endpoints.OnDelete(first)
	assert.Equal(t, "2 shop/db", w.at("10.1.0.1"))
	other := sliceOf(t, "all-1", "all", "10.1.0.1")
	w.endpoints.OnAdd(other, true)
	assert.Equal(t, nobody, w.at("10.1.0.1"), "either may be meant")
	renamed := sliceOf(t, "all-1", "db", "10.1.0.1")
	w.endpoints.OnUpdate(other, renamed)
	assert.Equal(t, "2 shop/db", w.at("10.1.0.1"))
}

func TestEndpointsAreBounded(t *testing.T) {
	var endpoints []string
	for i := range maxEndpointAddresses + 1 {
		endpoints = append(endpoints, fmt.Sprintf("10.1.%d.%d", i/250, i%250))
	}
	assert.Len(t, sliceOf(t, "db-1", "db", endpoints...).addresses, maxEndpointAddresses)
}
