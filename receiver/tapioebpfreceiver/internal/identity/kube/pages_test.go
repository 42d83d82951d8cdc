// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// pagesOf a list of three, a page each, and what was asked for; from the page with the number failing on there
// is an error.
func pagesOf(asked *[]metav1.ListOptions, failing int) *cache.ListWatch {
	return &cache.ListWatch{ListWithContextFunc: func(_ context.Context, options metav1.ListOptions) (runtime.Object, error) {
		*asked = append(*asked, options)
		n := len(*asked)
		if n >= failing {
			return nil, apierrors.NewResourceExpired("too late")
		}
		page := &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "70"}, Items: []corev1.Service{{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("service-%d", n), Annotations: map[string]string{"a": "b"}},
			Spec:       corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.0.0.%d", n)},
		}}}
		if n < 3 {
			page.Continue = fmt.Sprintf("page-%d", n+1)
		}
		return page, nil
	}}
}

func TestFirstListComesInPages(t *testing.T) {
	var asked []metav1.ListOptions
	list, err := inPages(pagesOf(&asked, 9), transformService).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "0", LabelSelector: "x"})
	require.NoError(t, err)
	assert.Equal(t, []metav1.ListOptions{
		{LabelSelector: "x", Limit: pageSize}, {LabelSelector: "x", Limit: pageSize, Continue: "page-2"}, {LabelSelector: "x", Limit: pageSize, Continue: "page-3"},
	}, asked)
	items, err := meta.ExtractList(list)
	require.NoError(t, err)
	require.Len(t, items, 3)
	for i, item := range items {
		kept := item.(*observedService)
		assert.Equal(t, fmt.Sprintf("service-%d", i+1), kept.Name)
		assert.Len(t, kept.addresses, 1)
		assert.Nil(t, kept.Annotations)
	}
	accessor, err := meta.ListAccessor(list)
	require.NoError(t, err)
	assert.Equal(t, "70", accessor.GetResourceVersion())
	assert.Empty(t, accessor.GetContinue(), "it is all there")
}

// Later lists come from the server's cache, which knows no pages.
func TestLaterListsAreAskedForAsTheyWere(t *testing.T) {
	var asked []metav1.ListOptions
	_, err := inPages(pagesOf(&asked, 9), transformService).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "42"})
	require.NoError(t, err)
	assert.Equal(t, metav1.ListOptions{ResourceVersion: "42"}, asked[0])
}

// The informer begins anew where the server has forgotten the rest of a list.
func TestAListThatExpires(t *testing.T) {
	var asked []metav1.ListOptions
	_, err := inPages(pagesOf(&asked, 2), transformService).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
	assert.True(t, apierrors.IsResourceExpired(err), err)
	assert.Len(t, asked, 2)
}
