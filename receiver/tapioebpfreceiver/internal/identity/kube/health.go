// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"syscall"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// health knows of each resource whether it is being watched, from the requests that were made. Only
// changes are told: a server that is away for hours is in the log once.
type health struct {
	logger   *zap.Logger
	onChange func(error) // nil: all is well

	mu      sync.Mutex
	failing map[string]error
}

// watched is a cache.ListWatch that tells how its requests fare.
func (h *health) watched(resource string, inner *cache.ListWatch) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := inner.ListWithContext(ctx, options)
			if err != nil && !isRoutine(ctx, err) {
				h.report(resource, explain("list", resource, err))
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			watching, err := inner.WatchWithContext(ctx, options)
			switch {
			case err == nil && reflect.TypeOf(watching) == brokenOff:
				h.report(resource, explain("watch", resource, errBrokenOff))
			case err == nil:
				h.report(resource, nil)
			case !isRoutine(ctx, err) && !isOldServer(options, err):
				h.report(resource, explain("watch", resource, err))
			}
			return watching, err
		},
	}
}

// The library takes a connection that ends before the answer for a watch without events.
var (
	brokenOff    = reflect.TypeOf(watch.NewEmptyWatch())
	errBrokenOff = errors.New("the connection was closed before the API server answered")
)

// isRoutine is so for what the informer deals with and nobody has to know.
func isRoutine(ctx context.Context, err error) bool {
	return ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// isOldServer is so where a server does not stream a list, which it is then asked for.
func isOldServer(options metav1.ListOptions, err error) bool {
	return options.SendInitialEvents != nil && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err))
}

func explain(verb, resource string, err error) error {
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s %s: %w: the agent's ClusterRole must allow the verbs list and watch on %s", verb, resource, err, resource)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s %s: %w: the API server does not accept the agent's token or certificate", verb, resource, err)
	default:
		return fmt.Errorf("%s %s: %w", verb, resource, err)
	}
}

func (h *health) report(resource string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.failing[resource]
	if err == nil {
		delete(h.failing, resource)
	} else {
		h.failing[resource] = err
	}
	if causeOf(err) == causeOf(before) {
		return // it has been told
	}
	if err == nil {
		h.logger.Info("The API server is watched again", zap.String("resource", resource))
	} else {
		h.logger.Warn("The API server cannot be watched; what is known of it stays, and it is tried again", zap.Error(err))
	}
	h.onChange(h.join())
}

// causeOf an error, without what changes each time, as a port does. Empty: there is none.
func causeOf(err error) string {
	if err == nil {
		return ""
	}
	reason := apierrors.ReasonForError(err)
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return fmt.Sprintf("%s %T", reason, err)
}

// watchEnded implements cache.WatchErrorHandlerWithContext, in place of one that writes to the
// standard error. Watches end all the time; whether the next one can be had is reported above.
func (h *health) watchEnded(_ context.Context, _ *cache.Reflector, err error) {
	h.logger.Debug("A watch of the API server has ended", zap.Error(err))
}

// err is nil if all that was asked for is being watched.
func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.join()
}

func (h *health) join() error {
	var all []error
	for _, resource := range slices.Sorted(maps.Keys(h.failing)) {
		all = append(all, h.failing[resource])
	}
	return errors.Join(all...)
}
