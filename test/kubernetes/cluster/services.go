// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// etcdBatch is what etcd takes at a time, at most 128 by default.
const etcdBatch = 120

// MakeServices makes Services "service-0" and so on. The API server would take minutes for ten thousand, so
// all but the first are copies of that, written to its storage.
func (c *ControlPlane) MakeServices(t testing.TB, n int) {
	t.Helper()
	first := c.Do(t, http.MethodPost, servicesPath, `{"metadata": {"name": "service-0", "labels": {"app.kubernetes.io/name": "shop", "team": "blue"}},
		"spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 9090}]}}`)
	var batch []etcdPut
	for i := 1; i < n; i++ {
		name := "service-" + strconv.Itoa(i)
		address := fmt.Sprintf("10.96.%d.%d", 1+i/250, 1+i%250)
		batch = append(batch,
			put("/registry/services/specs/default/"+name, serviceLike(t, first, name, address)),
			// else the API server would repair this, one after the other, beside the test
			put("/registry/ipaddresses/"+address, ipAddress(name, address)))
		if len(batch) >= etcdBatch || i == n-1 {
			c.putAll(t, batch)
			batch = nil
		}
	}
}

// serviceLike is a copy with another name and address, as the API server would store it.
func serviceLike(t testing.TB, first []byte, name, address string) []byte {
	var service map[string]any
	require.NoError(t, json.Unmarshal(first, &service))
	metadata, spec := service["metadata"].(map[string]any), service["spec"].(map[string]any)
	delete(metadata, "resourceVersion")
	maps.Copy(metadata, map[string]any{"name": name, "uid": "5ca1ab1e-0000-4000-8000-" + fmt.Sprintf("%012s", address[len("10.96."):])})
	maps.Copy(spec, map[string]any{"clusterIP": address, "clusterIPs": []string{address}})
	object, err := json.Marshal(service)
	require.NoError(t, err)
	return object
}

// ipAddress is new, since one that is old and whose Service the API server has not read yet is taken for a leak.
func ipAddress(service, address string) []byte {
	return fmt.Appendf(nil, `{"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": %q, "creationTimestamp": %q,
		"labels": {"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
		"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": %q}}}`, address, time.Now().UTC().Format(time.RFC3339), service)
}

// etcdPut is in the form of etcd's JSON gateway, which has bytes in base64.
type etcdPut struct {
	Put struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"request_put"`
}

func put(key string, value []byte) (p etcdPut) {
	p.Put.Key = base64.StdEncoding.EncodeToString([]byte(key))
	p.Put.Value = base64.StdEncoding.EncodeToString(value)
	return p
}

func (c *ControlPlane) putAll(t testing.TB, batch []etcdPut) {
	body, err := json.Marshal(map[string]any{"success": batch})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.etcd+"/v3/kv/txn", bytes.NewReader(body))
	require.NoError(t, err)
	response, err := c.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", answer)
}
