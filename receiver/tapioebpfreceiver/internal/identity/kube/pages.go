// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// pageSize is the library's own (k8s.io/client-go/tools/pager). A page of Services is 0.4 MB on the wire, and
// some times that decoded.
const pageSize = 500

// inPages is a cache.ListWatch that never has a whole list in memory before it is transformed, as a server is
// asked that cannot stream it (before Kubernetes 1.34, or with etcd before 3.4.25). The first list would come
// from the server's cache, which knows no pages, so it is asked for as of now; later ones are rare and stay as
// the library asks for them.
func inPages(inner *cache.ListWatch, transform cache.TransformFunc) *cache.ListWatch {
	paged := *inner
	paged.ListWithContextFunc = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		if options.ResourceVersion == "0" {
			options.ResourceVersion = ""
			options.Limit = pageSize
		}
		return listPages(ctx, inner, options, transform)
	}
	return &paged
}

func listPages(ctx context.Context, inner *cache.ListWatch, options metav1.ListOptions, transform cache.TransformFunc) (runtime.Object, error) {
	whole := &metainternalversion.List{}
	for {
		page, err := inner.ListWithContext(ctx, options)
		if err != nil {
			return nil, err // whoever asks tells its causes apart
		}
		of, err := meta.ListAccessor(page)
		if err != nil {
			return nil, fmt.Errorf("read a page of a list: %w", err)
		}
		if err := addPage(whole, page, transform); err != nil {
			return nil, fmt.Errorf("read a page of a list: %w", err)
		}
		whole.ResourceVersion = of.GetResourceVersion()
		if options.Continue = of.GetContinue(); options.Continue == "" {
			return whole, nil
		}
	}
}

func addPage(whole *metainternalversion.List, page runtime.Object, transform cache.TransformFunc) error {
	return meta.EachListItem(page, func(item runtime.Object) error {
		kept, err := transform(item)
		if err != nil {
			return err
		}
		object, ok := kept.(runtime.Object)
		if !ok {
			return fmt.Errorf("%T is no object", kept)
		}
		whole.Items = append(whole.Items, object)
		return nil
	})
}
