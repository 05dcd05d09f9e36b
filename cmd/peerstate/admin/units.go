package admin

import (
	"fmt"
	"math"
	"time"

	"github.com/dustin/go-humanize"

	"peerstate/cmd/peerstate/ending"
)

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return humanize.Comma(int64(n)) + " " + what
}

// figure shows three digits or so.
func figure(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 0.01:
		return "<0.01"
	case x < 1:
		return fmt.Sprintf("%.2g", x)
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	}
	return humanize.Comma(int64(math.Round(x)))
}

// short shows a time in ms.
func short(ms float64) string {
	switch {
	case ms > 0 && ms < 0.1:
		return figure(1000*ms) + " µs"
	case ms < 1000:
		return figure(ms) + " ms"
	}
	return figure(ms/1000) + " s"
}

// span shows a duration by its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d < 10*day:
		return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
	case d < 730*day:
		return fmt.Sprintf("%d days", ending.Days(d))
	}
	return fmt.Sprintf("%.1f years", d.Hours()/24/365.25)
}
