async function streamTextProcessing() {
	const response = await fetch('/process-stream', {
		method: 'POST',
		headers: {
			'Content-Type': 'application/json'
		},
		body: JSON.stringify({
			text: 'Your text here...',
			include_sentiment: true,
			include_summary: true,
			chunk_size: 200
		})
	});

	const reader = response.body.getReader();
	const decoder = new TextDecoder();

	while (true) {
		const { done, value } = await reader.read();
		if (done) break;

		const lines = decoder.decode(value).split('\n');
		for (const line of lines) {
			if (line.trim()) {
				try {
					const data = JSON.parse(line);
					console.log(`[${data.status}]`, data.message || '');

					// Update UI based on status
					updateProgressUI(data);
				} catch (e) {
					// Skip invalid JSON
				}
			}
		}
	}
}

function updateProgressUI(data) {
	const statusDiv = document.getElementById('status');
	const resultsDiv = document.getElementById('results');

	statusDiv.textContent = data.message || data.status;

	if (data.status === 'sentiment_complete') {
		resultsDiv.innerHTML += `<p>Sentiment: ${data.overall_sentiment}</p>`;
	} else if (data.status === 'summarization_complete') {
		resultsDiv.innerHTML += `<p>Summary: ${data.summary}</p>`;
	}
}
