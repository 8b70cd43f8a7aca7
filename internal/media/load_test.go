package media

import "testing"

func TestEncodersSpendLessWhileTheProcessorsAreBusy(t *testing.T) {
	effort := 5
	for _, c := range []struct {
		busy float64
		want int
	}{{0.2, 5}, {0.49, 5}, {0.55, 3}, {0.45, 3}, {0.8, 1}, {0.7, 1}, {0.6, 3}, {0.41, 3}, {0.39, 5}} {
		if effort = affordable(c.busy, effort); effort != c.want {
			t.Errorf("at %.2f they spend %d, want %d", c.busy, effort, c.want)
		}
	}
}
