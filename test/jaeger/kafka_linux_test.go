// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package jaeger

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tapio-io/otelcol-tapio/test/etcdserver"
)

// TestKafka: two nodes write to Kafka, and are not disturbed while it is away for a while. Two
// routers read it; and two samplers of another gateway, which has no routers.
func TestKafka(t *testing.T) {
	requireJaeger(t)
	broker := startBroker(t)
	jaeger := startKeeping(t)
	hosts, port := filepath.Join(t.TempDir(), "hosts"), freePort(t)
	writeHosts(t, hosts, samplerA, samplerB)
	samplers := [2]*part{
		startSampler(t, jaeger, samplerA, port, tracesOnly, keepAll),
		startSampler(t, jaeger, samplerB, port, tracesOnly, keepAll),
	}
	for range 2 {
		startReading(t, broker, hosts, port)
	}
	direct := [2]*part{startSamplerOf(t, broker), startSamplerOf(t, broker)}
	truth := runNodes(t, []string{gatewayFile("kafka-agent/kafka-agent.yaml")}, broker.environment(), 600, func() { broker.restart(t) }, broker.auth("exporters"))
	testWays(t, samplers, truth)
	t.Logf("%v spans came, of %d that there are: some twice, while the broker was away", samplers[0].accepted(t)+samplers[1].accepted(t), truth.spans.spans())
	testDirect(t, direct, truth)
	awaitDecided(t, samplers[:], len(truth.spans))
	for trace, spans := range truth.spans {
		require.True(t, eventually(func() bool { return len(jaeger.stored(t, trace)) == len(spans) }), "trace %s is whole", trace)
		assert.Equal(t, spans, jaeger.stored(t, trace))
	}
}

// testDirect: samplers that read by themselves get all spans, too, and those of a trace go to one, unless the broker's
// absence was in its middle.
func testDirect(t *testing.T, samplers [2]*part, truth *nodesTruth) {
	t.Helper()
	var came int
	require.True(t, within(readersPatience, func() bool {
		came = readSpans(t, samplers[0].seen, samplers[1].seen).spans()
		return came == truth.spans.spans()
	}), "%d spans came, of %d", came, truth.spans.spans())
	a, b := readSpans(t, samplers[0].seen), readSpans(t, samplers[1].seen)
	assert.NotEmpty(t, a)
	assert.NotEmpty(t, b)
	parted := 0
	for trace := range a {
		if b[trace] != nil {
			parted++
		}
	}
	t.Logf("%d traces of %d are parted where samplers read by themselves", parted, len(truth.spans))
	assert.Less(t, parted, len(truth.spans)/4)
}

// startSamplerOf a gateway without routers.
func startSamplerOf(t *testing.T, broker *broker) *part {
	t.Helper()
	seen := filepath.Join(t.TempDir(), "seen.jsonl")
	environment := append(broker.environment(), "TAPIO_KAFKA_GROUP=direct", "TAPIO_OTLP_ENDPOINT=127.0.0.1:9", "TAPIO_STATE="+t.TempDir())
	environment = append(environment, tracesOnly...)
	p := startPart(t, []string{"sampler.yaml", "kafka.yaml"}, "127.0.0.1", freePort(t), "", environment, broker.auth("receivers"),
		"service::pipelines::traces::exporters: [nop]",
		"exporters::file/seen: {path: "+seen+", flush_interval: 50ms}",
		"service::pipelines::traces/seen: {receivers: [kafka], exporters: [file/seen]}")
	p.seen = seen
	return p
}

// readersPatience is how long readers may take: after the broker was away, they wait for each other for up to a minute
// before they share the partitions anew.
const readersPatience = 3 * patience

// tracesOnly is the environment of a sampler in a test that is not about metrics and logs.
var tracesOnly = []string{"TAPIO_METRICS_EXPORTER=nop", "TAPIO_LOGS_EXPORTER=nop"}

// startReading is a router that reads from Kafka.
func startReading(t *testing.T, broker *broker, hosts, port string) *part {
	t.Helper()
	environment := append(broker.environment(), "TAPIO_SAMPLERS="+samplersName)
	return startPart(t, []string{"router.yaml", "kafka.yaml"}, "127.0.0.1", freePort(t), hosts, environment, broker.auth("receivers"),
		`exporters::load_balancing/traces::resolver::dns::port: "`+port+`"`,
		`exporters::load_balancing/resources::resolver::dns::port: "`+port+`"`)
}

// broker of Kafka's protocol, with TLS and a user.
type broker struct {
	*process
	binary, port, folder string
	certificates         *etcdserver.Certificates
}

const brokerUser, brokerPassword = "tapio", "a secret"

func startBroker(t *testing.T) *broker {
	t.Helper()
	b := &broker{
		binary: filepath.Join(t.TempDir(), "broker"), port: freePort(t), folder: t.TempDir(), certificates: etcdserver.NewCertificates(t),
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-C", filepath.Join(root, "test", "kafka", "broker"), "-o", b.binary, ".")
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "build the broker: %s", output)
	b.start(t)
	return b
}

func (b *broker) start(t *testing.T) {
	t.Helper()
	b.process = start(t, exec.Command(b.binary, "-port", b.port, "-data", b.folder, "-certificate", b.certificates.Server.Cert,
		"-key", b.certificates.Server.Key, "-username", brokerUser, "-password", brokerPassword, "otlp_spans", "otlp_metrics", "otlp_logs"), here)
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", b.address())
		if err == nil {
			connection.Close()
		}
		return err == nil || b.hasEnded()
	}, patience, pollInterval, "the broker does not listen")
	require.False(t, b.hasEnded(), "the broker has ended")
}

// restart has it away for a while.
func (b *broker) restart(t *testing.T) {
	t.Helper()
	b.end()
	const away = 5 * time.Second
	time.Sleep(away)
	b.start(t)
}

func (b *broker) address() string { return "127.0.0.1:" + b.port }

func (b *broker) environment() []string {
	return []string{
		"TAPIO_KAFKA_BROKERS=" + b.address(), "TAPIO_KAFKA_CA_FILE=" + b.certificates.CA,
		"TAPIO_KAFKA_USERNAME=" + brokerUser, "TAPIO_KAFKA_PASSWORD=" + brokerPassword,
	}
}

// auth is what the files have as a comment, of receivers or exporters.
func (b *broker) auth(of string) string {
	return of + "::kafka::auth::sasl: {mechanism: SCRAM-SHA-512, username: '${env:TAPIO_KAFKA_USERNAME}', password: '${env:TAPIO_KAFKA_PASSWORD}'}"
}
