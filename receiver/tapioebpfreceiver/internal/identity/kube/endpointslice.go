// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxEndpointAddresses is what the API server lets an EndpointSlice have.
const maxEndpointAddresses = 1000

// ofHeadlessServices asks for the EndpointSlices of Services without an address of their own, which the
// controller labels so: by them alone programs connect to a pod's address and mean a Service.
func ofHeadlessServices(options *metav1.ListOptions) {
	options.LabelSelector = corev1.IsHeadlessService
}

// transformEndpointSlice implements cache.TransformFunc. What is kept has the name of its Service.
func transformEndpointSlice(object any) (any, error) {
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return object, nil // it is called twice for some
	}
	return &observedService{
		ObjectMeta: keptMeta(&slice.ObjectMeta), service: slice.Labels[discoveryv1.LabelServiceName], addresses: endpointAddresses(slice),
	}, nil
}

// endpointAddresses are those that are not ready as well: whatever is sent there goes to the Service.
func endpointAddresses(slice *discoveryv1.EndpointSlice) (addresses []netip.Addr) {
	for i := range slice.Endpoints {
		for _, text := range slice.Endpoints[i].Addresses {
			if len(addresses) < maxEndpointAddresses {
				addresses = appendAddress(addresses, text)
			}
		}
	}
	return addresses
}
