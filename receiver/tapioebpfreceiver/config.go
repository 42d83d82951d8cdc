// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/confmap"
	"golang.org/x/net/http/httpguts"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/http1"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/replay"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// Config of the receiver. Its keys are described in the README.
type Config struct {
	// Source is where events come from: "ebpf", "simulator" or "replay".
	Source      string            `mapstructure:"source"`
	Families    FamiliesConfig    `mapstructure:"families"`
	Scope       ScopeConfig       `mapstructure:"scope"`
	Ring        RingConfig        `mapstructure:"ring"`
	RateLimits  RateLimitsConfig  `mapstructure:"rate_limits"`
	Batch       BatchConfig       `mapstructure:"batch"`
	Metrics     MetricsConfig     `mapstructure:"metrics"`
	Identity    IdentityConfig    `mapstructure:"identity"`
	Correlation CorrelationConfig `mapstructure:"correlation"`
	Recording   RecordingConfig   `mapstructure:"recording"`
	Replay      ReplayConfig      `mapstructure:"replay"`
	Simulator   SimulatorConfig   `mapstructure:"simulator"`
	// Kubernetes is off unless the section is there, or with enabled: false.
	Kubernetes configoptional.Optional[KubernetesConfig] `mapstructure:"kubernetes"`

	_ struct{}
}

// FamiliesConfig has one section a family of events; each is on unless its enabled is false, or it says otherwise.
type FamiliesConfig struct {
	Process configoptional.Optional[ProcessConfig] `mapstructure:"process"`
	Network configoptional.Optional[NetworkConfig] `mapstructure:"network"`
	DNS     configoptional.Optional[DNSConfig]     `mapstructure:"dns"`
	HTTP    configoptional.Optional[HTTPConfig]    `mapstructure:"http"`

	Security configoptional.Optional[SecurityConfig] `mapstructure:"security"`
	// Etcd is off unless the section is there, or with enabled: false.
	Etcd configoptional.Optional[EtcdConfig] `mapstructure:"etcd"`

	// CNI is off unless the section is there.
	CNI configoptional.Optional[CNIConfig] `mapstructure:"cni"`

	_ struct{}
}

// ProcessConfig of the family process.
type ProcessConfig struct {
	// Arguments says whether command lines are read.
	Arguments bool `mapstructure:"arguments"`
	// MaxArgumentBytes are read of a command line at the most.
	MaxArgumentBytes int `mapstructure:"max_argument_bytes"`

	_ struct{}
}

// NetworkConfig of the family network.
type NetworkConfig struct {
	// ReportInterval is how often a connection that lasts is reported. A UDP flow ends when its
	// socket is closed or when it was silent for as long.
	ReportInterval time.Duration `mapstructure:"report_interval"`
	// TLSHandshakes says whether handshakes of TLS are reported, by what of them is in the clear.
	TLSHandshakes bool `mapstructure:"tls_handshakes"`

	_ struct{}
}

// DNSConfig of the family dns.
type DNSConfig struct {
	// Ports of the servers whose clients are observed, over UDP and TCP.
	Ports []int `mapstructure:"ports"`
	// Timeout is how long a query may go unanswered before it counts as a failure.
	Timeout time.Duration `mapstructure:"timeout"`

	_ struct{}
}

// HTTPConfig of the family http.
type HTTPConfig struct {
	// Query says whether spans show query strings, with the values of credentials redacted.
	Query bool `mapstructure:"query"`
	// Headers to show.
	Headers HTTPHeadersConfig `mapstructure:"headers"`
	// Routes are patterns such as /users/{id}; the most specific that fits a server's request is
	// its http.route.
	Routes []string `mapstructure:"routes"`
	// ForwardedFor says whether a server's client.address is taken from X-Forwarded-For.
	ForwardedFor bool `mapstructure:"forwarded_for"`
	// MaxInFlight exchanges are followed at a time, each end counted.
	MaxInFlight int `mapstructure:"max_in_flight"`

	_ struct{}
}

// HTTPHeadersConfig names headers, in any case.
type HTTPHeadersConfig struct {
	Request  []string `mapstructure:"request"`
	Response []string `mapstructure:"response"`

	_ struct{}
}

// ScopeConfig says who is observed.
type ScopeConfig struct {
	// Cgroups are cgroup v2 paths below the mount; with none, it is the whole node.
	Cgroups []string `mapstructure:"cgroups"`

	_ struct{}
}

// RingConfig of the two ring buffers between kernel and receiver.
type RingConfig struct {
	// Size of the ring for connections, HTTP and DNS; the one for processes has an eighth of it.
	Size ByteSize `mapstructure:"size"`
	// FlushInterval is how long an event may wait in a ring.
	FlushInterval time.Duration `mapstructure:"flush_interval"`

	_ struct{}
}

// RateLimitsConfig has, by family, how many events a second one cgroup may make; 0: as many as it likes. What is beyond is
// summed up or counted, and not told.
type RateLimitsConfig struct {
	Process uint64 `mapstructure:"process"`
	Network uint64 `mapstructure:"network"`
	DNS     uint64 `mapstructure:"dns"`
	HTTP    uint64 `mapstructure:"http"`
	// Security is that of each kind of action.
	Security uint64 `mapstructure:"security"`
	Etcd     uint64 `mapstructure:"etcd"`

	_ struct{}
}

// BatchConfig of what is handed to the next component.
type BatchConfig struct {
	// MaxEvents of a batch.
	MaxEvents int `mapstructure:"max_events"`
	// Timeout is how long an event may wait for its batch to fill.
	Timeout time.Duration `mapstructure:"timeout"`
	// QueueSize is how many batches may wait for the next component.
	QueueSize int `mapstructure:"queue_size"`
	// RetryTimeout is how long a batch is offered again to a next component that says that it may
	// take it later; 0: it is offered once.
	RetryTimeout time.Duration `mapstructure:"retry_timeout"`

	_ struct{}
}

// MetricsConfig of the metrics that are made from the events.
type MetricsConfig struct {
	// Interval at which they are handed on.
	Interval time.Duration `mapstructure:"interval"`
	// SeriesLimit of each table of metrics; what is more goes to one series for all.
	SeriesLimit int `mapstructure:"series_limit"`

	_ struct{}
}

// IdentityConfig of the wait for names, where Kubernetes has some.
type IdentityConfig struct {
	// PodTimeout is how long the events of a new container wait for the names of its pod; 0: they do
	// not wait.
	PodTimeout time.Duration `mapstructure:"pod_timeout"`
	// MaxWaiting events at a time.
	MaxWaiting int `mapstructure:"max_waiting"`

	_ struct{}
}

// CorrelationConfig says how it is found out what caused what.
type CorrelationConfig struct {
	// InProcess says whether what a server sends is told to be for the request that it was serving, where
	// that is certain.
	InProcess bool `mapstructure:"in_process"`
	// MaxWait is how long a span waits for that of the request that it was for.
	MaxWait time.Duration `mapstructure:"max_wait"`
	// MaxHeld spans wait at a time.
	MaxHeld int `mapstructure:"max_held"`
	// Peers are addresses, as CIDR, where other agents may see the client's side of a request.
	Peers []string `mapstructure:"peers"`

	_ struct{}
}

// RecordingConfig of the file that the source's records are written to.
type RecordingConfig struct {
	// File to write; it must not exist yet. Empty: nothing is recorded.
	File string `mapstructure:"file"`
	// MaxSize is where recording ends; the receiver goes on.
	MaxSize ByteSize `mapstructure:"max_size"`

	_ struct{}
}

// ReplayConfig of the source replay.
type ReplayConfig struct {
	// File that a recording was written to.
	File string `mapstructure:"file"`
	// Speed is how much faster than it was recorded it is played; 0: as fast as it can be.
	Speed float64 `mapstructure:"speed"`

	_ struct{}
}

// SimulatorConfig of the source simulator.
type SimulatorConfig struct {
	// Rate of events a second; 0: as many as are taken.
	Rate float64 `mapstructure:"rate"`
	// Seed of the simulated world: the same one makes the same events.
	Seed uint64 `mapstructure:"seed"`
	// Pods on the simulated node.
	Pods int `mapstructure:"pods"`
	// Scenarios say how often something goes wrong.
	Scenarios ScenariosConfig `mapstructure:"scenarios"`

	_ struct{}
}

// ScenariosConfig has shares, from 0 to 1.
type ScenariosConfig struct {
	Errors        float64 `mapstructure:"errors"`
	SearchLists   float64 `mapstructure:"search_lists"`
	NXDomainStorm float64 `mapstructure:"nxdomain_storm"`
	CrashLoop     float64 `mapstructure:"crash_loop"`
	NoisyNeighbor float64 `mapstructure:"noisy_neighbor"`
	Attack        float64 `mapstructure:"attack"`

	_ struct{}
}

// ByteSize is a number of bytes, in YAML also with a unit: 8MiB.
type ByteSize uint64

var byteUnits = []struct {
	suffix string
	factor uint64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *ByteSize) UnmarshalText(text []byte) error {
	number, factor := strings.TrimSpace(string(text)), uint64(1)
	for _, unit := range byteUnits {
		if before, ok := strings.CutSuffix(number, unit.suffix); ok {
			number, factor = strings.TrimSpace(before), unit.factor
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > math.MaxUint64/factor {
		return fmt.Errorf("%q is not a size such as 8MiB", text)
	}
	*s = ByteSize(n * factor)
	return nil
}

// String implements fmt.Stringer.
func (s ByteSize) String() string {
	for i := len(byteUnits) - 2; i >= 0; i-- {
		if unit := byteUnits[i]; s > 0 && uint64(s)%unit.factor == 0 {
			return strconv.FormatUint(uint64(s)/unit.factor, 10) + unit.suffix
		}
	}
	return strconv.FormatUint(uint64(s), 10) + "B"
}

const (
	defaultReportInterval = time.Minute

	maxArgumentBytes = 4096 // MAX_ARGUMENT_BYTES, bpf/event.h
	minRingSize      = 64 << 10
	maxRingSize      = 512 << 20
	maxCgroups       = 256
	maxDNSPorts      = 16    // MAX_DNS_PORTS, bpf/dns.h
	maxInFlight      = 65535 // numbered with 16 bits, bpf/http.h
	maxHeaders       = 32    // each is compared with every header that comes
	maxWaiting       = 1 << 20
	maxHeldSpans     = 1 << 20
	maxPeers         = 256
	minRecordingSize = 64 << 10
	maxSpeed         = 1000
	maxRate          = 10_000_000
	maxRateLimit     = 1_000_000 // more events a second than one CPU can make
	maxPods          = 1000
)

var (
	_ component.Config    = (*Config)(nil)
	_ confmap.Validator   = (*Config)(nil)
	_ confmap.Unmarshaler = (*Config)(nil)
)

func createDefaultConfig() component.Config {
	return &Config{
		Source: kernel.Name,
		Families: FamiliesConfig{
			Process: configoptional.Some(ProcessConfig{Arguments: true, MaxArgumentBytes: 1024}),
			Network: configoptional.Some(NetworkConfig{ReportInterval: defaultReportInterval, TLSHandshakes: true}),
			DNS:     configoptional.Some(DNSConfig{Ports: []int{53}, Timeout: 5 * time.Second}),
			HTTP:    configoptional.Some(HTTPConfig{MaxInFlight: 4096}),

			Security: configoptional.Some(defaultSecurity()),

			CNI:  configoptional.Default(defaultCNI()),
			Etcd: configoptional.Default(defaultEtcd()),
		},
		Ring:    RingConfig{Size: 8 << 20, FlushInterval: 50 * time.Millisecond},
		Batch:   BatchConfig{MaxEvents: 8192, Timeout: 200 * time.Millisecond, QueueSize: 64, RetryTimeout: 5 * time.Second},
		Metrics: MetricsConfig{Interval: 10 * time.Second, SeriesLimit: 4096},

		Identity:    IdentityConfig{PodTimeout: 5 * time.Second, MaxWaiting: 8192},
		Correlation: CorrelationConfig{InProcess: true, MaxWait: 30 * time.Second, MaxHeld: 16384, Peers: defaultPeers()},
		Recording:   RecordingConfig{MaxSize: 256 << 20},
		Replay:      ReplayConfig{Speed: 1},
		Simulator: SimulatorConfig{Rate: 3, Seed: 1, Pods: 20, Scenarios: ScenariosConfig{
			Errors: 0.03, SearchLists: 0.3, NXDomainStorm: 0.01, CrashLoop: 0.02, NoisyNeighbor: 0.002, Attack: 0.002,
		}},
		Kubernetes: configoptional.Default(KubernetesConfig{
			AuthType:          kube.AuthServiceAccount,
			NodeName:          os.Getenv(nodeNameVariable),
			Services:          true,
			ServiceNameLabels: []string{"app.kubernetes.io/name"},
		}),
	}
}

// Unmarshal implements confmap.Unmarshaler. An empty cgroup is none, so that a list can be given by
// an environment variable that may be unset.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if err := checkNumbers(conf.ToStringMap()); err != nil {
		return err
	}
	if err := conf.Unmarshal(c); err != nil {
		return err
	}
	var named []string
	for _, cgroup := range c.Scope.Cgroups {
		if cgroup != "" {
			named = append(named, cgroup)
		}
	}
	c.Scope.Cgroups = named
	return nil
}

// withFractions may have numbers with a fraction.
var withFractions = []string{"simulator::rate", "simulator::scenarios", "replay::speed"}

// checkNumbers refuses those with a fraction where there can be none. The decoder cuts it off: a rate limit of 0.5 would
// be none.
func checkNumbers(sections map[string]any) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		errs = append(errs, checkWhole(name, sections[name]))
	}
	return errors.Join(errs...)
}

func checkWhole(key string, value any) error {
	if slices.Contains(withFractions, key) {
		return nil
	}
	var errs []error
	switch v := value.(type) {
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= 1<<63 {
			return fmt.Errorf("%s: %v must be a whole number, and one of 64 bits", key, v)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			errs = append(errs, checkWhole(key+"::"+name, v[name]))
		}
	case []any:
		for i, element := range v {
			errs = append(errs, checkWhole(fmt.Sprintf("%s::%d", key, i), element))
		}
	}
	return errors.Join(errs...)
}

// Validate implements confmap.Validator. All is checked here and not section by section, so that an
// error can name the whole key.
func (c *Config) Validate() error {
	return errors.Join(
		c.validateSource(),
		c.Families.validate(),
		c.Scope.validate(),
		c.Ring.validate(),
		c.RateLimits.validate(),
		c.Batch.validate(),
		c.Metrics.validate(),
		c.Identity.validate(),
		c.Correlation.validate(),
		c.validateRecording(),
		c.Replay.validate(),
		c.Simulator.validate(),
		c.validateKubernetes(),
	)
}

func (c *Config) validateSource() error {
	switch {
	case c.Source != kernel.Name && c.Source != simulator.Name && c.Source != replay.Name:
		return fmt.Errorf("source: %q is not known, it must be %q, %q or %q", c.Source, kernel.Name, simulator.Name, replay.Name)
	case c.Source == replay.Name && c.Replay.File == "":
		return fmt.Errorf("replay::file: source %s needs the recording to play", replay.Name)
	default:
		return nil
	}
}

func (c *Config) validateRecording() error {
	if c.Recording.File != "" && c.Source == replay.Name {
		return fmt.Errorf("recording::file: source %s plays a recording, and makes none", replay.Name)
	}
	if c.Recording.MaxSize < minRecordingSize {
		return fmt.Errorf("recording::max_size: %v must be at least %v", c.Recording.MaxSize, ByteSize(minRecordingSize))
	}
	return nil
}

// byFamily has those that are set.
func (c *RateLimitsConfig) byFamily() map[string]uint64 {
	limits := map[string]uint64{}
	for family, limit := range map[event.Family]uint64{
		event.FamilyProcess: c.Process, event.FamilyNetwork: c.Network, event.FamilyDNS: c.DNS,
		event.FamilyHTTP: c.HTTP, event.FamilySecurity: c.Security, event.FamilyEtcd: c.Etcd,
	} {
		if limit > 0 {
			limits[family.String()] = limit
		}
	}
	return limits
}

func (c *RateLimitsConfig) validate() error {
	var errs []error
	limits := c.byFamily()
	for _, family := range event.LimitedFamilies {
		errs = append(errs, within("rate_limits::"+family.String(), limits[family.String()], 0, maxRateLimit))
	}
	return errors.Join(errs...)
}

func (c *IdentityConfig) validate() error {
	return errors.Join(
		noneOrWithin("identity::pod_timeout", c.PodTimeout, time.Millisecond, time.Minute),
		within("identity::max_waiting", c.MaxWaiting, 1, maxWaiting),
	)
}

func (c *ReplayConfig) validate() error {
	return within("replay::speed", c.Speed, 0, maxSpeed)
}

func (c *SimulatorConfig) validate() error {
	return errors.Join(
		within("simulator::rate", c.Rate, 0, maxRate),
		within("simulator::pods", c.Pods, 1, maxPods),
		within("simulator::scenarios::errors", c.Scenarios.Errors, 0, 0.5), // of all failing, none would end
		within("simulator::scenarios::search_lists", c.Scenarios.SearchLists, 0, 1),
		within("simulator::scenarios::nxdomain_storm", c.Scenarios.NXDomainStorm, 0, 1),
		within("simulator::scenarios::crash_loop", c.Scenarios.CrashLoop, 0, 1),
		within("simulator::scenarios::noisy_neighbor", c.Scenarios.NoisyNeighbor, 0, 1),
		within("simulator::scenarios::attack", c.Scenarios.Attack, 0, 1),
	)
}

// families that are on, by name.
func (c *Config) families() []string {
	var on []string
	for _, family := range []struct {
		name string
		on   bool
	}{
		{"process", c.Families.Process.HasValue()},
		{"network", c.Families.Network.HasValue()},
		{"dns", c.Families.DNS.HasValue()},
		{"http", c.Families.HTTP.HasValue()},
		{"security", c.Families.Security.HasValue()},
		{"cni", c.Families.CNI.HasValue()},
		{"etcd", c.Families.Etcd.HasValue()},
	} {
		if family.on {
			on = append(on, family.name)
		}
	}
	return on
}

func (c *FamiliesConfig) validate() error {
	process, network, dns, http := c.Process.Get(), c.Network.Get(), c.DNS.Get(), c.HTTP.Get()
	security, cni, etcd := c.Security.Get(), c.CNI.Get(), c.Etcd.Get()
	if process == nil && network == nil && dns == nil && http == nil && security == nil && cni == nil && etcd == nil {
		return errors.New("families: all are off: enable process, network, dns, http, security, cni or etcd, or remove the receiver")
	}
	var errs []error
	if process != nil {
		errs = append(errs, within("families::process::max_argument_bytes", process.MaxArgumentBytes, 1, maxArgumentBytes))
	}
	if network != nil {
		errs = append(errs, within("families::network::report_interval", network.ReportInterval, time.Second, 24*time.Hour))
	}
	if dns != nil {
		errs = append(errs, dns.validate())
	}
	if http != nil {
		errs = append(errs, http.validate())
	}
	if security != nil {
		errs = append(errs, security.validate())
	}
	if cni != nil {
		errs = append(errs, cni.validate())
	}
	if etcd != nil {
		errs = append(errs, etcd.validate())
	}
	return errors.Join(errs...)
}

func (c *DNSConfig) validate() error {
	errs := []error{within("families::dns::timeout", c.Timeout, 100*time.Millisecond, time.Minute)}
	if n := len(c.Ports); n == 0 || n > maxDNSPorts {
		errs = append(errs, fmt.Errorf("families::dns::ports: there must be 1 to %d, not %d", maxDNSPorts, n))
	}
	return errors.Join(append(errs, validatePorts("families::dns::ports", c.Ports))...)
}

func validatePorts(key string, ports []int) error {
	var errs []error
	for i, port := range ports {
		errs = append(errs, within(fmt.Sprintf("%s::%d", key, i), port, 1, math.MaxUint16))
	}
	return errors.Join(errs...)
}

// portsOf a configuration that was checked. There they are of a type with room for numbers that are none, which the
// decoder would cut to 16 bits.
func portsOf(numbers []int) []uint16 {
	var ports []uint16
	for _, number := range numbers {
		ports = append(ports, uint16(number))
	}
	return ports
}

func (c *HTTPConfig) validate() error {
	errs := []error{within("families::http::max_in_flight", c.MaxInFlight, 64, maxInFlight)}
	if _, err := http1.NewRoutes(c.Routes); err != nil {
		errs = append(errs, fmt.Errorf("families::http::routes: %w", err))
	}
	return errors.Join(append(errs,
		validateHeaders("families::http::headers::request", c.Headers.Request),
		validateHeaders("families::http::headers::response", c.Headers.Response),
	)...)
}

func validateHeaders(key string, names []string) error {
	if n := len(names); n > maxHeaders {
		return fmt.Errorf("%s: %d are too many, the most are %d", key, n, maxHeaders)
	}
	for _, name := range names {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%s: %q is not the name of a header", key, name)
		}
	}
	return nil
}

// httpOptions are those of spans and metrics. The routes belong to whoever asks.
func (c *Config) httpOptions() (translate.HTTPOptions, error) {
	http := c.Families.HTTP.Get()
	if http == nil {
		return translate.HTTPOptions{}, nil
	}
	routes, err := http1.NewRoutes(http.Routes)
	if err != nil {
		return translate.HTTPOptions{}, fmt.Errorf("families::http::routes: %w", err)
	}
	return translate.HTTPOptions{
		Query:           http.Query,
		RequestHeaders:  lowerCase(http.Headers.Request),
		ResponseHeaders: lowerCase(http.Headers.Response),
		Routes:          routes,
		ForwardedFor:    http.ForwardedFor,
	}, nil
}

// lowerCase is what header names are in attributes. One that is named twice is shown once.
func lowerCase(names []string) []string {
	var lower []string
	for _, name := range names {
		if name = strings.ToLower(name); !slices.Contains(lower, name) {
			lower = append(lower, name)
		}
	}
	return lower
}

func (c *ScopeConfig) validate() error {
	if n := len(c.Cgroups); n > maxCgroups {
		return fmt.Errorf("scope::cgroups: %d are too many, the most are %d", n, maxCgroups)
	}
	return nil
}

func (c *RingConfig) validate() error {
	return errors.Join(
		c.validateSize(),
		within("ring::flush_interval", c.FlushInterval, time.Millisecond, 10*time.Second),
	)
}

func (c *RingConfig) validateSize() error {
	if c.Size < minRingSize || c.Size > maxRingSize || bits.OnesCount64(uint64(c.Size)) != 1 {
		return fmt.Errorf("ring::size: %v must be a power of two from %v to %v", c.Size, ByteSize(minRingSize), ByteSize(maxRingSize))
	}
	return nil
}

func (c *BatchConfig) validate() error {
	return errors.Join(
		within("batch::max_events", c.MaxEvents, 1, 1<<20),
		within("batch::timeout", c.Timeout, time.Millisecond, time.Minute),
		within("batch::queue_size", c.QueueSize, 1, 1<<16),
		noneOrWithin("batch::retry_timeout", c.RetryTimeout, time.Millisecond, 10*time.Minute),
	)
}

func (c *MetricsConfig) validate() error {
	return errors.Join(
		within("metrics::interval", c.Interval, 100*time.Millisecond, time.Hour),
		within("metrics::series_limit", c.SeriesLimit, 1, 1<<20),
	)
}

// noneOrWithin is for durations that may be 0. The lowest is more than a number without a unit is, which would be ns.
func noneOrWithin(key string, value, lowest, highest time.Duration) error {
	if value != 0 && (value < lowest || value > highest) {
		return fmt.Errorf("%s: %v must be 0, or from %v to %v", key, value, lowest, highest)
	}
	return nil
}

func within[T int | uint64 | float64 | time.Duration](key string, value, lowest, highest T) error {
	if inRange := value >= lowest && value <= highest; !inRange { // as not-a-number never is
		return fmt.Errorf("%s: %v must be from %v to %v", key, value, lowest, highest)
	}
	return nil
}
